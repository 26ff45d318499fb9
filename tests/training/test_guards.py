"""Losses that are no number, and losses that explode."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small import random_rows
from tests.training.small_run import DATA, ROWS, SETTINGS, VALIDATION, Spoiled, holds, messages, run
from tunefork.core.errors import RunError
from tunefork.core.events import Event, RunEnded, StepDone, Validated, Warned
from tunefork.data.tokens import TokenRows
from tunefork.models import Batch
from tunefork.training import Plan, TrainingData, TrainState
from tunefork.training.guards import has_exploded, note_loss


def _bad_row(row: int, value: float = math.nan) -> Spoiled:
    """Make the loss of one row no number, wherever it is computed."""
    return Spoiled(lambda batch, loss: loss * (value if holds(batch, row) else 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_whose_loss_is_no_number_is_skipped_and_the_row_named(
    value: float, tmp_path: Path
) -> None:
    seen: list[Event] = []
    data = replace(DATA, name_row=lambda row: f"train.jsonl:{row + 1}")
    _, result = run(tmp_path, data=data, objective=_bad_row(4, value), sink=seen.append)
    plan = Plan(DATA, SETTINGS)
    holding = [
        step
        for step in range(plan.steps)
        if any(4 in chosen for chosen in plan.micro_batches(step))
    ]
    assert messages(seen, Warned) == [
        f"step {step + 1} was skipped, nothing changed: the loss of train.jsonl:5 is no number"
        for step in holding
    ]
    done = [event.step for event in seen if isinstance(event, StepDone)]
    assert sorted([*done, *(step + 1 for step in holding)]) == list(range(1, plan.steps + 1))
    assert result.state.step == plan.steps
    assert result.state.skipped == len(holding)
    assert result.state.last_train_loss is not None
    assert math.isfinite(result.state.last_train_loss)


def test_a_skipped_step_changes_neither_weights_nor_moments(tmp_path: Path) -> None:
    """With the same bad step at the end, the tensors are those of a run without it."""
    settings = SETTINGS.model_copy(
        update={"epochs": 1, "checkpoint_every": 1, "validate_every": 0, "schedule": "linear"}
    )
    data = TrainingData(ROWS)
    last = Plan(data, settings).steps - 1
    row = Plan(data, settings).micro_batches(last)[0][0]
    run(tmp_path / "spoiled", settings, data=data, objective=_bad_row(row))
    run(tmp_path / "plain", settings, data=data)
    name = "tensors.safetensors"
    step = f"checkpoints/step-{last:06d}"
    before = (tmp_path / "plain" / step / name).read_bytes()
    after = tmp_path / "spoiled" / f"checkpoints/step-{last + 1:06d}" / name
    assert after.read_bytes() == before


def test_a_gradient_that_overflows_names_the_rows_of_its_step(tmp_path: Path) -> None:
    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            return gradients[0] * math.inf

    def spoil(batch: Batch, loss: torch.Tensor) -> Any:
        return Overflow.apply(loss) if holds(batch, 4) else loss  # type: ignore[no-untyped-call]

    seen: list[Event] = []
    run(tmp_path, objective=Spoiled(spoil), sink=seen.append)
    first = messages(seen, Warned)[0]
    assert "its gradient overflowed (training row " in first
    assert "training row 5" in first


def test_three_skipped_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    seen: list[Event] = []
    spoiled = Spoiled(lambda batch, loss: loss * (math.nan if torch.is_grad_enabled() else 1.0))
    with pytest.raises(RunError, match="3 steps in a row were skipped, the last at step 3") as e:
        run(tmp_path, objective=spoiled, sink=seen.append)
    assert len(messages(seen, Warned)) == 3
    assert "learning_rate` (it is 0.005; try 0.0017)" in str(e.value.hint)


def test_a_bad_row_in_every_step_is_named_when_the_run_ends(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch_tokens": 10_000})
    with pytest.raises(RunError, match="the loss of training row 5 is no number") as caught:
        run(tmp_path, settings, objective=_bad_row(4))
    assert "mend or remove these rows" in str(caught.value.hint)


def test_skipping_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """Also the count of skipped steps: it is part of the checkpoint."""

    def stop_at(step: int) -> Any:
        def sink(event: Event) -> None:
            if isinstance(event, StepDone) and event.step >= step:
                raise InterruptedError

        return sink

    expected, whole = run(tmp_path / "whole", objective=_bad_row(4))
    for step in (5, 9, 14):
        with pytest.raises(InterruptedError):
            run(tmp_path / "cut", objective=_bad_row(4), sink=stop_at(step))
    found, result = run(tmp_path / "cut", objective=_bad_row(4))
    assert found == expected
    assert result.state.skipped == whole.state.skipped > 0


@pytest.mark.parametrize("names", [True, False])
def test_a_held_out_loss_that_is_no_number_names_its_rows(names: bool, tmp_path: Path) -> None:
    weights = VALIDATION.weights.copy()
    weights[VALIDATION.offsets[3] - 1] = math.inf
    spoiled = TokenRows(VALIDATION.ids, weights, VALIDATION.offsets)
    data = replace(
        DATA,
        validation=spoiled,
        name_held_out=(lambda row: f"held.jsonl:{row + 1}") if names else None,
    )
    with pytest.raises(RunError, match="no number before the first step") as caught:
        run(tmp_path, data=data)
    assert str(caught.value.message).endswith("held.jsonl:3" if names else "held-out row 3")
    assert "remove these rows" in str(caught.value.hint)


def _explodes_at(calls: int, data: TrainingData, factor: float = 30.0) -> Spoiled:
    """Make the training loss far too high from some number of packed rows on."""
    n_calls = 0

    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        nonlocal n_calls
        if not torch.is_grad_enabled():
            return loss
        n_calls += 1
        return loss + loss.detach() * (factor - 1 if n_calls > calls else 0.0)

    return Spoiled(spoil)


_LONG = SETTINGS.model_copy(update={"epochs": 20, "batch_tokens": 60, "micro_tokens": 1000})


def test_an_exploding_loss_ends_with_the_best_weights(tmp_path: Path) -> None:
    seen: list[Event] = []
    _, result = run(tmp_path, _LONG, objective=_explodes_at(30, DATA), sink=seen.append)
    assert result.reason == "exploded"
    assert result.state.step == 50 < result.steps
    best = min((e for e in seen if isinstance(e, Validated)), key=lambda event: event.loss)
    assert (result.state.best_step, result.state.best_loss) == (best.step, best.loss)
    assert isinstance(seen[-1], RunEnded)
    (warning,) = messages(seen, Warned)
    assert "the loss exploded" in warning
    assert "lower `training.learning_rate` (it is 0.005; try 0.0017)" in warning


def test_an_exploding_loss_without_held_out_rows_is_an_error(tmp_path: Path) -> None:
    data = TrainingData(ROWS)
    with pytest.raises(RunError, match="the loss exploded") as caught:
        run(tmp_path, _LONG, data=data, objective=_explodes_at(30, data))
    assert "lower `training.learning_rate`" in str(caught.value.hint)


def _exploded_at(losses: Any) -> int | None:
    state = TrainState()
    for step, loss in enumerate(losses, start=1):
        state = note_loss(state, float(loss))
        if has_exploded(state):
            return step
    return None


_RANDOM = np.random.default_rng(0)
_HARMLESS = {
    "falls and wavers": np.exp(-np.arange(400) / 100) * 4 + _RANDOM.exponential(0.5, 400),
    "memorised, then doubled and tripled": np.append(np.full(100, 0.02), np.full(100, 0.06)),
    "single rows, easy and hard ones": np.where(_RANDOM.random(3000) < 0.5, 0.4, 6.0),
    "heavy tails": _RANDOM.lognormal(0.5, 1.0, 3000),
    "high from the first step": np.full(300, 11.0),
    "rises late by a half": np.append(np.full(100, 2.0), np.linspace(2, 3, 200)),
    "a spike of fifteen steps": np.concatenate([[3.0] * 50, [9.0] * 15, [3.0] * 50] * 3),
    "shorter than the window": [1.0, 50.0, 100.0],
}


@pytest.mark.parametrize("name", _HARMLESS)
def test_harmless_losses_do_not_count_as_exploding(name: str) -> None:
    assert _exploded_at(_HARMLESS[name]) is None


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        (np.append(np.full(15, 4.0), np.full(100, 9.0)), 35),
        (np.append(np.linspace(5, 0.5, 200), np.full(100, 4.5)), 220),
        (np.append(np.full(30, 0.1), np.full(50, 8.0)), 50),
    ],
)
def test_losses_that_stay_far_up_count_as_exploding(losses: Any, step: int) -> None:
    assert _exploded_at(losses) == step


def test_replayed_rows_are_named_as_general_ones(tmp_path: Path) -> None:
    pool = random_rows(9, seed=5)
    pool = TokenRows(pool.ids, np.full_like(pool.weights, math.nan), pool.offsets)
    data = TrainingData(ROWS, replay=pool, n_replayed=9)
    settings = SETTINGS.model_copy(update={"batch_tokens": 10_000})
    with pytest.raises(RunError, match=r"the loss of general row 1, general row 2, .* and 1 more"):
        run(tmp_path, settings, data=data)
