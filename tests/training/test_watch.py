"""Which weights become the result where something must not be forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.small import packed_model
from tests.training.small_run import ROWS, SETTINGS, VALIDATION
from tunefork.core.events import Event, StepDone, Validated, no_sink
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import (
    CheckpointStore,
    TrainingData,
    TrainResult,
    TrainState,
    TrainStep,
    Watch,
    train,
)
from tunefork.training.judge import judge
from tunefork.training.tally import Mean

BUDGET = 0.02
seen = st.lists(
    st.tuples(st.floats(0.1, 5), st.sampled_from([-0.01, 0.0, 0.02, 0.021, 0.3])),
    min_size=1,
    max_size=12,
)


@given(seen)
def test_the_lowest_loss_within_the_budget_is_kept(points: list[tuple[float, float]]) -> None:
    state = TrainState()
    for step, (loss, drop) in enumerate(points, 1):
        state = TrainState(**{**vars(state), "step": step})
        state, told = judge(state, Mean(loss), Watch(lambda drop=drop: drop, BUDGET))  # type: ignore[misc]
        assert (told.loss, told.forgetting) == (loss, drop)
        assert told.is_best == (state.best_step == step)
    within = [loss for loss, drop in points if drop <= BUDGET]
    assert state.best_loss == min(within or [loss for loss, _ in points])
    assert state.lowest_loss == min(loss for loss, _ in points)
    lowest = [loss for loss, _ in points].index(min(loss for loss, _ in points))
    assert state.stale == len(points) - 1 - lowest


@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=9))
def test_without_a_watch_the_lowest_loss_is_kept(losses: list[float]) -> None:
    state = TrainState()
    for step, loss in enumerate(losses, 1):
        state, told = judge(TrainState(**{**vars(state), "step": step}), Mean(loss), None)
        assert told.forgetting is None
    assert state.best_loss == state.lowest_loss == min(losses)


class _Killed(BaseException):
    """Stands for the process being killed."""


def _train(folder: Path, drops: list[float], kill_at: int | None = None) -> TrainResult:
    """Train, forgetting by a list of drops, one for each validation."""
    model, method = packed_model("llama"), Lora(LoraSettings(rank=4))
    method.attach(model, SETTINGS.seed)
    at = 0

    def sink(event: Event) -> None:
        nonlocal at
        if isinstance(event, StepDone):
            at = event.step // SETTINGS.validate_every - 1
            if event.step == kill_at:
                raise _Killed

    watch = Watch(lambda: drops[min(at, len(drops) - 1)], BUDGET)
    return train(
        TrainStep(model, Sft(), SETTINGS),
        method.parameters(model),
        TrainingData(ROWS, VALIDATION, watch=watch),
        SETTINGS,
        CheckpointStore(folder),
        sink,
    )


def test_training_ends_with_weights_within_the_budget(tmp_path: Path) -> None:
    free = _train(tmp_path / "free", [0.0])
    assert free.state.best_step > SETTINGS.validate_every
    bound = _train(tmp_path / "bound", [0.01, 0.5])
    assert bound.state.best_step == SETTINGS.validate_every
    assert bound.state.best_drop == 0.01
    over = _train(tmp_path / "over", [0.5])
    assert over.state.best_step == free.state.best_step
    assert over.state.best_drop == 0.5


def test_a_killed_run_keeps_what_it_knew(tmp_path: Path) -> None:
    expected = _train(tmp_path / "whole", [0.01, 0.5])
    with pytest.raises(_Killed):
        _train(tmp_path / "cut", [0.01, 0.5], kill_at=SETTINGS.checkpoint_every * 2 + 1)
    found = _train(tmp_path / "cut", [0.01, 0.5])
    assert found.resumed_from is not None
    assert (found.state.best_step, found.state.best_drop) == (
        expected.state.best_step,
        expected.state.best_drop,
    )


def test_what_was_forgotten_is_told(tmp_path: Path) -> None:
    told: list[Validated] = []
    model, method = packed_model("llama"), Lora(LoraSettings(rank=4))
    method.attach(model, SETTINGS.seed)
    train(
        TrainStep(model, Sft(), SETTINGS),
        method.parameters(model),
        TrainingData(ROWS, VALIDATION, watch=Watch(lambda: 0.015, BUDGET)),
        SETTINGS,
        CheckpointStore(tmp_path),
        lambda event: told.append(event) if isinstance(event, Validated) else no_sink(event),
    )
    assert told
    assert {event.forgetting for event in told} == {0.015}
