"""LoRA here and in PEFT are the same thing: files, logits, loss and gradients."""

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.core.errors import ModelError
from tunefork.models import Base, PackedLayout, collate, hash_parameters, run_on
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings, load_adapter

NAMES = [name for name in CONFIGS if name != "mixtral"]  # PEFT and its fused experts disagree
IDS = torch.arange(4, 40)


def _trained(name: str, **settings: Any) -> tuple[Any, Lora]:
    """Return a model whose adapter has an effect."""
    model, strategy = packed_model(name), Lora(LoraSettings(rank=4, alpha=6, **settings))
    strategy.attach(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in strategy.parameters(model).values():
        parameter.data.normal_(0, 0.1, generator=generator)
    return model, strategy


def _logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return run_on(model, ids, PackedLayout([len(ids)]))


@pytest.mark.parametrize("name", NAMES)
def test_peft_loads_what_we_save(name: str, tmp_path: Path) -> None:
    model, strategy = _trained(name)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path)).eval()
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    assert (expected - _logits(packed_model(name))).abs().max() > 1e-2
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_we_load_what_peft_saves(name: str, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules="all-linear",
        use_rslora=True,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        fan_in_fan_out=name == "gpt2",
    )
    theirs = peft.get_peft_model(plain_model(name), config).eval()
    theirs.save_pretrained(str(tmp_path))
    model = packed_model(name)
    load_adapter(model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            _logits(model), theirs(IDS[None]).logits[0], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_loss_and_gradients_equal_a_padded_peft_step(name: str, tmp_path: Path) -> None:
    model, strategy = _trained(name)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path), is_trainable=True)
    rows = random_rows(6)
    longest = int(rows.lengths.max())
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros(len(rows), longest)
    for index in range(len(rows)):
        row_ids, weights = (torch.tensor(part) for part in rows.row(index))
        ids[index, : len(row_ids)] = row_ids
        mask[index, : len(row_ids)] = 1
        labels[index, : len(row_ids)] = torch.where(weights > 0, row_ids.long(), -100)
    expected = theirs(ids, attention_mask=mask, labels=labels).loss
    torch.autograd.backward(expected)

    loss = Sft().loss(model, collate(rows, range(len(rows))))
    torch.autograd.backward(loss.total / loss.weight)
    assert float((loss.total / loss.weight).detach()) == pytest.approx(
        float(expected.detach()), abs=1e-4
    )
    gradients = {
        key.replace(".default", ""): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    ours = {key: parameter.grad for key, parameter in strategy.parameters(model).items()}
    assert gradients.keys() == ours.keys()
    for key, gradient in ours.items():
        torch.testing.assert_close(gradient, gradients[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_effect_at_the_start_nor_when_disabled(name: str) -> None:
    base = packed_model(name)
    fresh = packed_model(name)
    Lora().attach(fresh, seed=0)
    assert torch.equal(_logits(fresh), _logits(base))
    model, strategy = _trained(name)
    with strategy.disabled(model):
        assert torch.equal(_logits(model), _logits(base))
    assert not torch.equal(_logits(model), _logits(base))


@pytest.mark.parametrize("name", CONFIGS)
def test_save_and_load_give_the_same_logits_and_leave_the_base_alone(
    name: str, tmp_path: Path
) -> None:
    model, strategy = _trained(name)
    before = hash_parameters(packed_model(name).named_parameters())
    assert hash_parameters(strategy.frozen(model).items()) == before
    strategy.save(model, tmp_path, Base(name, tmp_path))
    loaded = packed_model(name)
    load_adapter(loaded, tmp_path)
    assert torch.equal(_logits(loaded), _logits(model))


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_equals_unmerged(name: str) -> None:
    model, strategy = _trained(name)
    expected = _logits(model)
    strategy.merge(model)
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)
    assert not strategy.parameters(model)


def test_targets_by_name() -> None:
    model = packed_model("llama")
    strategy = Lora(LoraSettings(rank=2, targets=("q_proj", "v_proj")))
    strategy.attach(model, seed=0)
    assert {name.rsplit(".", 3)[-3] for name in strategy.parameters(model)} == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match="no linear layer called `q_porj`") as caught:
        Lora(LoraSettings(targets=("q_porj",))).attach(packed_model("llama"), seed=0)
    assert "q_proj" in str(caught.value.hint)


def test_the_seed_decides_the_start() -> None:
    def start(seed: int) -> str:
        model, strategy = packed_model("llama"), Lora()
        strategy.attach(model, seed)
        return hash_parameters(strategy.parameters(model).items())

    assert start(1) == start(1) != start(2)


def _break_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("damage", ["other base", "other method", "dora", "no weights", "garbage"])
def test_unusable_adapters_are_refused(damage: str, tmp_path: Path) -> None:
    model, strategy = _trained("llama")
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    weights = tmp_path / "adapter_model.safetensors"
    if damage == "other base":
        tensors = load_file(weights)
        key = next(key for key in tensors if ".lora_A." in key)
        save_file({**tensors, key: torch.zeros(4, 7)}, weights)
    elif damage == "other method":
        _break_config(tmp_path, peft_type="IA3")
    elif damage == "dora":
        _break_config(tmp_path, use_dora=True)
    elif damage == "no weights":
        weights.unlink()
    else:
        weights.write_bytes(b"\x00" * 40)
    untouched = packed_model("llama")
    with pytest.raises(ModelError):
        load_adapter(untouched, tmp_path)


def test_gradients_reach_only_the_adapter() -> None:
    model, strategy = _trained("llama")
    before = copy.deepcopy(strategy.frozen(model))
    loss = Sft().loss(model, collate(random_rows(4), range(4)))
    torch.autograd.backward(loss.total)
    assert all(p.grad is not None for p in strategy.parameters(model).values())
    assert all(p.grad is None for p in strategy.frozen(model).values())
    assert hash_parameters(before.items()) == hash_parameters(strategy.frozen(model).items())
    assert model.get_output_embeddings().weight.shape[0] == VOCABULARY
