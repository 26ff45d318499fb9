"""What holds for every objective, whatever it learns from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.objectives.cases import CASES, Case
from tests.small import packed_model
from tests.training.small_run import SETTINGS, run
from tunefork.core.events import CheckpointSaved, Event, StepDone, Validated
from tunefork.models import collate, pack
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import Plan, TrainingData

_LOSS_SAYS_ALL = ("sft", "pretrain", "classify-names")
_PARAMETERS = [pytest.param(case, id=case.name) for case in CASES]
_SETTINGS = SETTINGS.model_copy(
    update={"batch_tokens": 100, "micro_tokens": 200, "checkpoint_every": 1}
)


class _Stop(Exception):
    pass


def _data(case: Case) -> TrainingData:
    return TrainingData(case.items(12), case.items(3, seed=5))


@pytest.mark.parametrize("case", _PARAMETERS)
def test_an_interrupted_run_ends_in_the_same_bits(case: Case, tmp_path: Path) -> None:
    data = _data(case)
    whole, result = run(tmp_path / "whole", _SETTINGS, data=data, objective=case.objective)
    saved: list[Event] = []

    def stopping(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event)
            if len(saved) == 2:
                raise _Stop

    with pytest.raises(_Stop):
        run(tmp_path / "cut", _SETTINGS, data=data, objective=case.objective, sink=stopping)
    again, resumed = run(tmp_path / "cut", _SETTINGS, data=data, objective=case.objective)
    assert again == whole
    assert 0 < (resumed.resumed_from or 0) < result.steps
    assert resumed.state.best_loss == result.state.best_loss
    assert resumed.state.best_metrics == result.state.best_metrics


@pytest.mark.parametrize("case", _PARAMETERS)
def test_the_loss_falls_and_what_is_told_of_it_improves(case: Case, tmp_path: Path) -> None:
    seen: list[Event] = []
    settings = _SETTINGS.model_copy(update={"epochs": 8, "validate_every": 0})
    data = TrainingData(case.items(8))
    run(tmp_path, settings, data=data, objective=case.objective, sink=seen.append)
    steps = [event for event in seen if isinstance(event, StepDone)]
    in_epoch = len(steps) // 8
    first, last = steps[:in_epoch], steps[-in_epoch:]
    if case.objective.kind == "prompts":  # answers to some prompts have more to gain by nature
        assert np.mean([step.metrics["clipped"] for step in last]) < 1
    else:
        assert np.mean([step.loss for step in last]) < np.mean([step.loss for step in first])
    has_sides = case.objective.kind != "prompts" and case.name not in _LOSS_SAYS_ALL
    if has_sides:
        assert np.mean([step.metrics["accuracy"] for step in last]) > 0.9
    if case.name not in ("sft", "pretrain"):
        assert all(np.isfinite(value) for step in steps for value in step.metrics.values())


@pytest.mark.parametrize("case", _PARAMETERS)
def test_one_batch_equals_its_items_one_by_one(case: Case) -> None:
    """Value and gradient; what depends on the cut is compared with prompts computed twice."""
    items = case.items(5)
    numbers = list(range(len(items)))
    cuts = [[[number] for number in numbers]] if case.is_cut_free else [[numbers]]
    found = []
    for batches, shares in (([numbers], True), (cuts[0], False)):
        model = packed_model("llama")
        Lora(LoraSettings(rank=4)).attach(model, 1)
        for name, weight in model.named_parameters():
            if name.endswith("lora_B"):
                torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(2))
        losses = [
            case.objective.loss(model, collate(items, batch, shares=shares)) for batch in batches
        ]
        total = torch.stack([loss.total for loss in losses]).sum()
        weight = sum(float(loss.weight) for loss in losses)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        found.append((total, weight, torch.autograd.grad(total, trained)))
    (one, one_weight, one_gradients), (other, other_weight, other_gradients) = found
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert one_weight == pytest.approx(other_weight)
    for left, right in zip(one_gradients, other_gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", _PARAMETERS)
def test_the_weight_known_beforehand_is_that_of_the_loss(case: Case) -> None:
    batch = collate(case.items(3), range(3))
    loss = case.objective.loss(packed_model("llama"), batch)
    assert case.objective.weight(batch) == float(loss.weight)


@pytest.mark.parametrize("case", _PARAMETERS)
@pytest.mark.parametrize("limit", [1, 60, 10_000])
def test_items_stay_whole_and_none_is_lost(case: Case, limit: int) -> None:
    items = case.items(9)
    batches = pack(items, range(9), limit)
    assert sorted(number for batch in batches for number in batch) == list(range(9))
    size = int(items.starts[1])
    for batch in batches:
        made = collate(items, batch)
        assert made.n_rows == size * len(batch)
        # Tokens of a batch are those of its rows, less what is computed once.
        assert len(made.ids) <= made.n_tokens
        assert len(batch) == 1 or len(made.ids) <= limit + 60  # a shared beginning comes free


def test_a_shared_prompt_is_computed_once_and_counts_once_in_packing() -> None:
    case = next(case for case in CASES if case.name == "dpo")
    items = case.items(30)
    for batch in pack(items, range(30), 80):
        assert len(batch) == 1 or len(collate(items, batch).ids) <= 80
    alone = [collate(items, [number]) for number in range(30)]
    saved = [batch.n_tokens - len(batch.ids) for batch in alone]
    assert max(saved) >= 32
    plan = Plan(TrainingData(items), _SETTINGS)
    order = [
        number
        for step in range(plan.steps_per_epoch)
        for batch in plan.micro_batches(step)
        for number in batch
    ]
    assert sorted(order) == list(range(30))


def test_metrics_reach_validation_and_the_state(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "dpo")
    seen: list[Event] = []
    _, result = run(
        tmp_path, _SETTINGS, data=_data(case), objective=case.objective, sink=seen.append
    )
    told = [event for event in seen if isinstance(event, Validated)]
    best = next(event for event in reversed(told) if event.is_best)
    assert result.state.best_metrics == best.metrics
    assert set(best.metrics) == {"accuracy", "margin"}
    assert result.state.base_loss == pytest.approx(np.log(2), rel=1e-5)  # the base against itself
    assert result.state.base_metrics["margin"] == pytest.approx(0, abs=1e-5)
