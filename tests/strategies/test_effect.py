"""An adapter that does nothing, and a merge that lost it, are told; each in its own words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import packed_model
from tests.strategies.cases import CASES, Case, disturb, trained
from tunefork.core.errors import ModelError
from tunefork.models import Base
from tunefork.strategies import Lora, LoraSettings, Prefix, PrefixSettings, load_adapter
from tunefork.strategies.effect import (
    Effect,
    check_base,
    check_effect,
    check_formats,
    check_merge,
    probe,
)

ADAPTERS = [case for case in CASES if case.make("llama").is_disableable]


def _tuned(**settings: Any) -> tuple[Any, Lora]:
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=4, alpha=6, **settings))
    strategy.attach(model, 1)
    disturb(strategy, model)
    return model, strategy


def _shrink(strategy: Lora, model: Any, size: float) -> None:
    for name, parameter in strategy.parameters(model).items():
        if ".lora_B." in name:
            parameter.data *= size


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    model, strategy = _tuned()
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    return tmp_path


def _rewrite(folder: Path, change: Any) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def _reconfigure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("case", ADAPTERS, ids=lambda case: case.name)
def test_a_trained_adapter_has_an_effect(case: Case) -> None:
    model, strategy = trained(case, "llama")
    effect = check_effect(model, strategy, Path("adapter"))
    assert effect.size > 1e-3
    assert torch.equal(effect.base, probe(case.model("llama")))


@pytest.mark.parametrize("case", ADAPTERS, ids=lambda case: case.name)
def test_one_that_was_never_trained_has_none(case: Case) -> None:
    model, strategy = case.model("llama"), case.make("llama")
    strategy.attach(model, 1)
    if not strategy.is_neutral_at_start:
        pytest.skip("it has an effect from the start")
    with pytest.raises(ModelError, match="the adapter has no effect"):
        check_effect(model, strategy, Path("adapter"))


def test_a_zeroed_adapter(adapter: Path) -> None:
    _rewrite(adapter, lambda tensors: {key: value * 0 for key, value in tensors.items()})
    model = packed_model("llama")
    with pytest.raises(ModelError, match="the adapter has no effect") as caught:
        load_adapter(model, adapter)
    assert str(caught.value.where) == str(adapter)
    assert torch.equal(probe(model), probe(packed_model("llama")))  # it was taken off again


def test_an_adapter_that_is_no_number(adapter: Path) -> None:
    _rewrite(adapter, lambda tensors: {key: value / 0 for key, value in tensors.items()})
    with pytest.raises(ModelError, match="no finite numbers"):
        load_adapter(packed_model("llama"), adapter)


def test_an_adapter_under_any_number() -> None:
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=4))
    strategy.attach(model, 1, number=3)
    disturb(strategy, model)
    assert check_effect(model, strategy, Path("adapter")).size > 0


def test_an_adapter_for_another_base(tmp_path: Path) -> None:
    check_base("sha256:1", "sha256:1", tmp_path)
    check_base("sha256:1", None, tmp_path)
    with pytest.raises(ModelError, match="trained on another base: its weights hash to sha256:2"):
        check_base("sha256:1", "sha256:2", tmp_path)


def test_another_rank(adapter: Path) -> None:
    _reconfigure(adapter, r=8)
    with pytest.raises(ModelError, match=r"has rank 4, and .* says 8"):
        load_adapter(packed_model("llama"), adapter)


def test_renamed_targets_in_the_config(adapter: Path) -> None:
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    _reconfigure(adapter, target_modules=[*targets[1:], "query"])
    with pytest.raises(ModelError, match=f"`target_modules` does not name `.*{targets[0]}`"):
        load_adapter(packed_model("llama"), adapter)
    _reconfigure(adapter, target_modules=[*targets, "c_attn"])  # a list for several architectures
    load_adapter(packed_model("llama"), adapter)
    _reconfigure(adapter, target_modules=r".*self_attn\.[qkvo]_proj")
    with pytest.raises(ModelError, match=r"`target_modules` does not name `.*mlp"):
        load_adapter(packed_model("llama"), adapter)


def test_renamed_targets_in_the_tensors(adapter: Path) -> None:
    _rewrite(adapter, lambda t: {key.replace("q_proj", "query"): value for key, value in t.items()})
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    _reconfigure(adapter, target_modules=[*(t for t in targets if t != "q_proj"), "query"])
    with pytest.raises(ModelError, match=r"it has no linear layer `.*query`"):
        load_adapter(packed_model("llama"), adapter)


@pytest.mark.parametrize("size", [1.0, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_a_merge_that_kept_the_change_passes(name: str, dtype: torch.dtype, size: float) -> None:
    model, strategy = packed_model(name), Lora(LoraSettings(rank=4, alpha=6))
    model.to(dtype).float()
    strategy.attach(model, 1)
    disturb(strategy, model)
    _shrink(strategy, model, size)
    effect = check_effect(model, strategy, Path("adapter"))
    strategy.merge(model)
    model.to(dtype).float()
    check_merge(effect, probe(model), dtype, Path("merged"))


def test_a_merge_that_forgot_the_adapter() -> None:
    model, strategy = _tuned()
    effect = check_effect(model, strategy, Path("adapter"))
    with pytest.raises(ModelError, match="the merge lost the adapter: 0% of its effect"):
        check_merge(effect, effect.base, torch.float32, Path("merged"))
    with pytest.raises(ModelError, match="the merge lost the adapter: none"):
        check_merge(effect, effect.base * torch.nan, torch.float32, Path("merged"))


def test_a_change_below_the_rounding_of_the_merge() -> None:
    """Weights that stand on bf16's grid stay where they are if less than half a step is added."""
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=4, alpha=6))
    model.to(torch.bfloat16).to(torch.float32)
    strategy.attach(model, 1)
    disturb(strategy, model)
    _shrink(strategy, model, 1e-4)
    effect = check_effect(model, strategy, Path("adapter"))
    strategy.merge(model)
    check_merge(effect, probe(model), torch.float32, Path("merged"))
    model.to(torch.bfloat16).to(torch.float32)
    with pytest.raises(ModelError, match=r"the merge lost the adapter: .* is left in bfloat16"):
        check_merge(effect, probe(model), torch.bfloat16, Path("merged"))


@pytest.mark.parametrize("shorter", [torch.float16, torch.bfloat16])
def test_a_merge_that_went_through_a_shorter_format(shorter: torch.dtype) -> None:
    model, strategy = _tuned()
    effect = check_effect(model, strategy, Path("adapter"))
    strategy.merge(model)
    model.to(shorter).to(torch.float32)
    with pytest.raises(ModelError, match="not the base with the adapter: its logits are off by"):
        check_merge(effect, probe(model), torch.float32, Path("merged"))


def test_merged_weights_of_another_format() -> None:
    check_formats([torch.bfloat16, torch.int64], torch.bfloat16, Path("merged"))
    with pytest.raises(ModelError, match="weights are float16, and the base's are bfloat16"):
        check_formats([torch.bfloat16, torch.float16], torch.bfloat16, Path("merged"))


def test_a_prefix_has_an_effect_and_is_checked_too() -> None:
    model, strategy = packed_model("llama"), Prefix(PrefixSettings(tokens=3))
    strategy.attach(model, 1)
    assert isinstance(check_effect(model, strategy, Path("adapter")), Effect)
