"""A merged model is its base with the adapter, and a folder like the base's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from tests.small import plain_model, save_tokenizer
from tests.strategies.cases import IDS, disturb, logits
from tunefork.core.errors import ModelError
from tunefork.models import Base, find_base, load_model
from tunefork.strategies import Lora, LoraSettings, Prefix, PrefixSettings, load_adapter
from tunefork.strategies.folder import write_adapter
from tunefork.strategies.merge import merge_adapter
from tunefork.strategies.qlora import Qlora


def _base(folder: Path, dtype: torch.dtype, name: str = "llama") -> Base:
    plain_model(name).to(dtype).save_pretrained(folder)
    save_tokenizer(folder)
    return find_base(str(folder))


def _adapter(base: Base, folder: Path, strategy: Any, size: float = 1.0) -> Any:
    """Save an adapter with an effect; return the model that it is on."""
    model = load_model(
        base,
        dtype=torch.float32,
        quantization="nf4" if isinstance(strategy, Qlora) else None,
    )
    strategy.attach(model, 1)
    disturb(strategy, model)
    for name, parameter in strategy.parameters(model).items():
        if ".lora_B." in name:
            parameter.data *= size
    folder.mkdir()
    strategy.save(model, folder, base)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize(
    "strategy",
    [
        Lora(LoraSettings(rank=4, alpha=6)),
        Lora(LoraSettings(rank=4, dora=True, targets=("q_proj", "c_attn"))),
        Lora(LoraSettings(rank=4, rslora=True)),
        Qlora(LoraSettings(rank=4, alpha=6)),
    ],
    ids=["lora", "dora", "rslora", "qlora"],
)
def test_a_merged_folder_is_the_base_with_the_adapter(
    strategy: Lora, name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    if strategy.settings.targets:
        own = "c_attn" if name == "gpt2" else "q_proj"
        strategy = Lora(strategy.settings.model_copy(update={"targets": (own,)}))
    strategy = type(strategy)(strategy.settings)
    base = _base(tmp_path / "base", dtype, name)
    tuned = logits(_adapter(base, tmp_path / "adapter", strategy))
    is_quantized = isinstance(strategy, Qlora)
    merged = merge_adapter(
        base,
        tmp_path / "adapter",
        tmp_path / "out",
        quantization="nf4" if is_quantized else None,
        base_hash=base.hash(),
    )
    assert merged.folder == tmp_path / "out"
    assert merged.effect > 1e-3
    assert ("dequantized nf4" in merged.note) == is_quantized
    theirs = transformers.AutoModelForCausalLM.from_pretrained(merged.folder, dtype=torch.float32)
    with torch.no_grad():
        found = theirs.eval()(IDS[None]).logits[0]
    off = torch.linalg.vector_norm(found - tuned) / torch.linalg.vector_norm(tuned)
    assert float(off) < (1e-5 if dtype == torch.float32 else 1e-2)
    before = {key: tensor for path in base.weight_files for key, tensor in load_file(path).items()}
    after = load_file(merged.folder / "model.safetensors")
    assert {key: (t.shape, t.dtype) for key, t in after.items()} == {
        key: (t.shape, t.dtype) for key, t in before.items()
    }
    untouched = next(key for key in before if "embed" in key or "wte" in key)
    assert torch.equal(after[untouched], before[untouched])
    names = {path.name for path in merged.folder.iterdir()}
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    written = json.loads((merged.folder / "config.json").read_text())
    assert written["dtype"] == str(dtype).removeprefix("torch.")


def test_an_adapter_of_another_base_is_not_merged(tmp_path: Path) -> None:
    base = _base(tmp_path / "base", torch.float32)
    _adapter(base, tmp_path / "adapter", Lora(LoraSettings(rank=4)))
    with pytest.raises(ModelError, match="trained on another base"):
        merge_adapter(base, tmp_path / "adapter", tmp_path / "out", base_hash="sha256:0")
    assert not (tmp_path / "out").exists()


def test_a_change_that_the_format_cannot_hold_leaves_no_folder(tmp_path: Path) -> None:
    base = _base(tmp_path / "base", torch.bfloat16)
    _adapter(base, tmp_path / "adapter", Lora(LoraSettings(rank=4)), size=1e-4)
    with pytest.raises(ModelError, match="the merge lost the adapter"):
        merge_adapter(base, tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_the_change_of_a_head_that_was_tied_to_the_embeddings_is_kept(tmp_path: Path) -> None:
    base = _base(tmp_path / "base", torch.float32)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["lm_head"]}
    sizes = {"A": (4, 32), "B": (97, 4)}
    key = "base_model.model.lm_head.lora_{}.weight"
    tensors = {key.format(part): torch.randn(size) for part, size in sizes.items()}
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", config, tensors)
    model = load_model(base, dtype=torch.float32)
    load_adapter(model, tmp_path / "adapter")
    merged = merge_adapter(base, tmp_path / "adapter", tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(merged.folder, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(IDS[None]).logits[0], logits(model))


def test_what_cannot_be_merged_says_so(tmp_path: Path) -> None:
    base = _base(tmp_path / "base", torch.float32)
    _adapter(base, tmp_path / "adapter", Prefix(PrefixSettings(tokens=3)))
    with pytest.raises(ModelError, match="strategy `prefix` cannot be merged"):
        merge_adapter(base, tmp_path / "adapter", tmp_path / "out")


def test_a_number_format_that_does_not_exist(tmp_path: Path) -> None:
    base = _base(tmp_path / "base", torch.float32)
    path = tmp_path / "base" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dtype": "float17"}))
    with pytest.raises(ModelError, match="float17"):
        merge_adapter(find_base(str(base.folder)), tmp_path / "adapter", tmp_path / "out")
