"""Each token is computed by its own adapter, forward and again in the backward pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import packed_model, random_rows
from tunefork.models import Base, Layout, PackedLayout, Segment, run_on
from tunefork.models.routing import Places, current_routing
from tunefork.strategies import Bank, Lora, LoraSettings
from tunefork.training.step import _recompute_layers

LENGTHS = (5, 9, 3, 7)
IDS = torch.arange(4, 4 + sum(LENGTHS))


def _bank(name: str = "llama", *, dora: bool = False) -> Bank:
    bank = Bank(packed_model(name))
    for rank in (4, 3):
        number = bank.attach(Lora(LoraSettings(rank=rank, dora=dora)), seed=rank)
        generator = torch.Generator().manual_seed(number)
        for parameter in bank[number].parameters(bank.model).values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise, alpha=0.1)
    return bank


def _layout(*numbers: int, lengths: tuple[int, ...] = LENGTHS) -> PackedLayout:
    return PackedLayout(
        [Segment(length, adapter=number) for length, number in zip(lengths, numbers, strict=True)]
    )


def _weights(bank: Bank, number: int) -> list[torch.Tensor]:
    return list(bank[number].parameters(bank.model).values())


def _loss(bank: Bank, layout: Layout, ids: torch.Tensor = IDS) -> torch.Tensor:
    return run_on(bank.model, ids, layout).sin().sum()


def test_places_of_each_adapter() -> None:
    places = Places(torch.tensor([2, 2, 0, 7, 0, 2]))
    found = {number: at.tolist() for number, at in places.of.items()}
    assert found == {0: [2, 4], 2: [0, 1, 5], 7: [3]}
    assert places.only is None
    assert Places(torch.tensor([3, 3])).only == 3


@pytest.mark.parametrize("dora", [False, True])
def test_gradients_of_a_mixed_row_equal_each_document_alone(dora: bool) -> None:
    bank, numbers = _bank(dora=dora), (2, 0, 1, 2)
    wanted = [*_weights(bank, 1), *_weights(bank, 2)]
    found = torch.autograd.grad(_loss(bank, _layout(*numbers)), wanted)
    alone = [torch.zeros_like(weight) for weight in wanted]
    for part, number in zip(torch.split(IDS, list(LENGTHS)), numbers, strict=True):
        if number:
            loss = _loss(bank, _layout(number, lengths=(len(part),)), part)
            own = torch.autograd.grad(loss, wanted, allow_unused=True)
            for total, gradient in zip(alone, own, strict=True):
                if gradient is not None:
                    total.add_(gradient)
    for one, other in zip(found, alone, strict=True):
        # Sums of other lengths round otherwise, on some processors more: 2.3e-5 of the largest
        # in float32, 2e-14 in float64, where a fault would stay.
        torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_recomputation_sees_the_routing_of_its_own_forward(name: str) -> None:
    found = []
    for recompute in (False, True):
        bank = _bank(name)
        if recompute:
            _recompute_layers(bank.model)
            bank.model.train()
        policy = _loss(bank, _layout(1, 2, 1, 0))
        plain = _loss(bank, PackedLayout(LENGTHS))  # as training has it
        with torch.no_grad():
            reference = _loss(bank, _layout(0, 0, 0, 0))
        weights = [*_weights(bank, 1), *_weights(bank, 2)]
        loss = (policy - reference) * plain
        found.append(torch.autograd.grad(loss, weights))
        assert current_routing() is None
    assert all(map(torch.equal, *found))


def test_a_failing_layer_leaves_no_routing() -> None:
    bank = _bank()
    with pytest.raises(IndexError):
        run_on(bank.model, torch.full((24,), 10_000), _layout(1, 2, 1, 0))
    layer = bank.model.model.layers[1]
    handle = layer.register_forward_pre_hook(_fail)
    with pytest.raises(ZeroDivisionError):
        run_on(bank.model, IDS, _layout(1, 2, 1, 0))
    handle.remove()
    assert current_routing() is None


def _fail(module: Any, args: Any) -> None:
    raise ZeroDivisionError


def test_a_changed_output_head_sees_only_the_kept_tokens(tmp_path: Path) -> None:
    bank = _bank("qwen2")
    strategy = bank[1]
    strategy.save(bank.model, tmp_path, Base("qwen2", tmp_path))
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) for shape in ((4, 32), (97, 4)))
    head = {"lm_head.lora_A.weight": down, "lm_head.lora_B.weight": up}
    save_file(tensors | {f"base_model.model.{name}": t for name, t in head.items()}, weights)
    config = tmp_path / "adapter_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "target_modules": "all-linear"})
    )
    number = bank.add(tmp_path)
    assert number == 3
    keep = torch.tensor([0, 4, 6, 15, 23])
    layout = _layout(3, 1, 0, 3)
    with torch.no_grad():
        everywhere = run_on(bank.model, IDS, layout)
        kept = run_on(bank.model, IDS, layout, keep)
        without = run_on(bank.model, IDS, _layout(1, 1, 0, 1))
    torch.testing.assert_close(kept, everywhere[keep], atol=1e-5, rtol=1e-5)
    changed = (everywhere - without).abs().amax(dim=1) > 1e-3
    assert changed.tolist() == [True] * 5 + [False] * 12 + [True] * 7


def test_random_routings_equal_each_document_alone() -> None:
    bank, rows = _bank(), random_rows(30, longest=9)
    random = torch.Generator().manual_seed(3)
    numbers = torch.randint(0, 3, (30,), generator=random).tolist()
    parts = [torch.from_numpy(rows.row(index)[0]).long() for index in range(30)]
    layout = _layout(*numbers, lengths=tuple(len(part) for part in parts))
    with torch.no_grad():
        together = run_on(bank.model, torch.cat(parts), layout)
        alone = [
            run_on(bank.model, part, _layout(number, lengths=(len(part),)))
            for part, number in zip(parts, numbers, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
