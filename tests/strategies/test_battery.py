"""What every strategy promises, on every architecture: one list of properties for all of them."""

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from tests.small import packed_model, plain_model, random_rows, save_model
from tests.strategies.cases import (
    ARCHITECTURES,
    CASES,
    IDS,
    SETTINGS,
    Case,
    disturb,
    logits,
    optimizer_for,
    train_steps,
    trained,
)
from tunefork.models import (
    Base,
    PackedLayout,
    Segment,
    adapt_model,
    collate,
    hash_parameters,
)
from tunefork.objectives import Sft
from tunefork.strategies import Bank, Lora, LoraSettings, load_adapter
from tunefork.strategies.parts import base_tensors
from tunefork.training import TrainStep


def over(cases: Sequence[Case] = CASES) -> Callable[[Any], Any]:
    """Run a property over these strategies, on each architecture."""

    def parametrized(test: Any) -> Any:
        names = pytest.mark.parametrize("architecture", ARCHITECTURES)
        return names(pytest.mark.parametrize("case", cases, ids=lambda case: case.name)(test))

    return parametrized


DISABLEABLE = [case for case in CASES if case.make("llama").is_disableable]
MERGEABLE = [case for case in CASES if case.make("llama").is_mergeable]
ROUTABLE = [case for case in CASES if case.make("llama").is_routable]
KNOWN_TO_PEFT = [case for case in CASES if case.is_known_to_peft]


@over()
def test_only_its_own_tensors_move(case: Case, architecture: str) -> None:
    model, strategy = case.model(architecture), case.make(architecture)
    strategy.attach(model, 1)
    own = {id(parameter) for parameter in strategy.parameters(model).values()}
    frozen = hash_parameters(strategy.frozen(model).items())
    before = copy.deepcopy(model.state_dict())
    train_steps(model, optimizer_for(strategy, model), 0, 2)
    tensors = model.state_dict(keep_vars=True)
    moved = {name for name, tensor in tensors.items() if not _same_bytes(tensor, before[name])}
    assert moved
    assert all(id(tensors[name]) in own for name in moved)
    assert hash_parameters(strategy.frozen(model).items()) == frozen


@over()
def test_no_effect_at_the_start(case: Case, architecture: str) -> None:
    model, strategy = case.model(architecture), case.make(architecture)
    expected = logits(model)
    strategy.attach(model, 1)
    assert torch.equal(logits(model), expected) == strategy.is_neutral_at_start


@over(DISABLEABLE)
def test_disabled_is_the_base(case: Case, architecture: str) -> None:
    expected = logits(case.model(architecture))
    model, strategy = trained(case, architecture)
    with strategy.disabled(model):
        assert torch.equal(logits(model), expected)
    assert not torch.allclose(logits(model), expected, atol=1e-3)


@over()
def test_saved_and_loaded_is_the_same(case: Case, architecture: str, tmp_path: Path) -> None:
    model, strategy = trained(case, architecture)
    base = Base(architecture, save_model(architecture, tmp_path / "base"))
    (tmp_path / "saved").mkdir()
    strategy.save(model, tmp_path / "saved", base)
    if strategy.is_routable:
        loaded = case.model(architecture)
        load_adapter(loaded, tmp_path / "saved")
    else:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        adapt_model(loaded, base)
    assert torch.equal(logits(loaded), logits(model))


@over(MERGEABLE)
def test_merged_equals_unmerged(case: Case, architecture: str) -> None:
    model, strategy = trained(case, architecture)
    expected = logits(model)
    names = {name for name, _ in packed_model(architecture).named_parameters()}
    strategy.merge(model)
    assert {name for name, _ in model.named_parameters()} == names
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


@over(ROUTABLE)
def test_a_row_of_many_adapters_equals_each_alone(case: Case, architecture: str) -> None:
    bank = _bank(case, architecture)
    lengths, numbers = (5, 9, 3, 7, 6), (2, 0, 1, 2, 1)
    parts = torch.split(IDS[: sum(lengths)], list(lengths))
    together = logits(bank.model, IDS[: sum(lengths)], _layout(lengths, numbers))
    alone = [
        logits(bank.model, part, _layout([len(part)], [number]))
        for part, number in zip(parts, numbers, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    assert torch.equal(alone[1], logits(case.model(architecture), parts[1]))
    own, strategy = trained(case, architecture)
    assert torch.equal(alone[2], logits(own, parts[2]))
    assert strategy.number == 1


@over(ROUTABLE)
def test_taken_off_leaves_the_base(case: Case, architecture: str) -> None:
    base = case.model(architecture)
    bank = _bank(case, architecture)
    assert hash_parameters(bank[1].frozen(bank.model).items()) == hash_parameters(
        base_tensors(base).items()
    )
    for number in (1, 2):
        bank.remove(number)
    assert not len(bank)
    assert hash_parameters(bank.model.named_parameters()) == hash_parameters(
        base.named_parameters()
    )
    assert torch.equal(logits(bank.model), logits(base))


@over(KNOWN_TO_PEFT)
def test_peft_agrees(case: Case, architecture: str, tmp_path: Path) -> None:
    model, strategy = trained(case, architecture)
    strategy.save(model, tmp_path, Base(architecture, tmp_path))
    theirs = peft.PeftModel.from_pretrained(plain_model(architecture), str(tmp_path)).eval()
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    # The same adapter, as PEFT writes it, comes back as ours.
    shutil.rmtree(tmp_path)
    theirs.save_pretrained(str(tmp_path), save_embedding_layers=False)
    again = case.model(architecture)
    load_adapter(again, tmp_path)
    assert torch.equal(logits(again), logits(model))


@over()
def test_resumed_is_the_same_to_the_bit(case: Case, architecture: str) -> None:
    model, strategy = case.model(architecture), case.make(architecture)
    strategy.attach(model, 1)
    optimizer = optimizer_for(strategy, model)
    train_steps(model, optimizer, 0, 2)
    state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    train_steps(model, optimizer, 2, 2)

    other, again = case.model(architecture), case.make(architecture)
    again.attach(other, 1)
    resumed = optimizer_for(again, other)
    resumed.load_state(state)
    train_steps(other, resumed, 2, 2)
    assert torch.equal(logits(other), logits(model))
    assert hash_parameters(resumed.state().items()) == hash_parameters(optimizer.state().items())


@over()
def test_recomputing_changes_no_bit(case: Case, architecture: str) -> None:
    batch, found = collate(random_rows(4), range(4)), []
    for recompute in (False, True):
        model, strategy = trained(case, architecture)
        settings = SETTINGS.model_copy(update={"recompute": recompute})
        step = TrainStep(model, Sft(), settings).train()
        weights = list(strategy.parameters(model).values())
        found.append(torch.autograd.grad(step(batch).total, weights, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert one is other if one is None else torch.equal(one, other)


def _same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare tensors that may hold anything, four-bit numbers in the guise of bf16 included."""
    raw = [tensor.detach().flatten().view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*raw)


def _bank(case: Case, architecture: str) -> Bank:
    """Return the case's adapter as 1, and a LoRA of another rank as 2."""
    bank = Bank(case.model(architecture))
    bank.attach(case.make(architecture), seed=1)
    disturb(bank[1], bank.model)
    targets = ("q_proj", "v_proj") if architecture == "mixtral" else None
    bank.attach(Lora(LoraSettings(rank=3, targets=targets)), seed=5)
    disturb(bank[2], bank.model, seed=6)
    return bank


def _layout(lengths: Any, numbers: Any) -> PackedLayout:
    return PackedLayout(
        [Segment(length, adapter=number) for length, number in zip(lengths, numbers, strict=True)]
    )
