"""The loop: same result however a step is cut, and to the same bits however often it is killed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small import packed_model, random_rows
from tests.training.small_run import ROWS, SETTINGS, VALIDATION
from tunefork.core.events import Event, RunEnded, StepDone, Validated, Warned, no_sink
from tunefork.data.tokens import TokenRows
from tunefork.models import hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Full, Lora, LoraSettings, Strategy
from tunefork.training import (
    CheckpointStore,
    Plan,
    TrainingData,
    TrainResult,
    TrainSettings,
    TrainStep,
    train,
)

POOL = random_rows(9, seed=5)


class Killed(BaseException):
    """Stands for the process being killed."""


def _strategy(name: str) -> Strategy:
    return Full() if name == "full" else Lora(LoraSettings(rank=4, dropout=0.1))


def _run(
    folder: Path,
    settings: TrainSettings = SETTINGS,
    *,
    strategy: str = "lora",
    dtype: torch.dtype = torch.float32,
    kill_at: int | None = None,
    sink: Any = no_sink,
) -> tuple[str, TrainResult]:
    model, method = packed_model("llama").to(dtype), _strategy(strategy)
    method.attach(model, settings.seed)

    def watch(event: Event) -> None:
        sink(event)
        if isinstance(event, StepDone) and event.step == kill_at:
            raise Killed

    result = train(
        TrainStep(model, Sft(), settings),
        method.parameters(model),
        TrainingData(ROWS, VALIDATION, replay=POOL, n_replayed=4),
        settings,
        CheckpointStore(folder),
        watch,
    )
    return hash_parameters(method.parameters(model).items()), result


@pytest.mark.parametrize("strategy", ["lora", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_interrupted_runs_end_in_the_same_bits(
    strategy: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    expected, _ = _run(tmp_path / "whole", strategy=strategy, dtype=dtype)
    for kill_at in (1, 3, 4, 8, 13):
        with pytest.raises(Killed):
            _run(tmp_path / "cut", strategy=strategy, dtype=dtype, kill_at=kill_at)
    found, result = _run(tmp_path / "cut", strategy=strategy, dtype=dtype)
    assert found == expected
    assert result.resumed_from == 12


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    expected, _ = _run(tmp_path / "whole")
    with pytest.raises(Killed):
        _run(tmp_path / "cut", kill_at=8)
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    seen: list[Event] = []
    found, result = _run(tmp_path / "cut", sink=seen.append)
    assert (found, result.resumed_from) == (expected, 3)
    assert any(isinstance(event, Warned) and str(newest) in event.message for event in seen)


def test_one_packed_row_equals_eight(tmp_path: Path) -> None:
    losses = []
    for name, micro in (("one", 1000), ("eight", 8)):
        seen: list[Event] = []
        settings = SETTINGS.model_copy(update={"micro_tokens": micro})
        _run(tmp_path / name, settings, strategy="full", sink=seen.append)  # no dropout there
        losses.append([event.loss for event in seen if isinstance(event, StepDone | Validated)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-4)


def test_the_best_weights_are_the_result_and_it_stops_when_nothing_improves(
    tmp_path: Path,
) -> None:
    settings = SETTINGS.model_copy(
        update={"epochs": 40, "validate_every": 2, "patience": 3, "learning_rate": 2e-2}
    )
    seen: list[Event] = []
    _, result = _run(tmp_path, settings, sink=seen.append)
    validated = [event for event in seen if isinstance(event, Validated)]
    best = min(validated, key=lambda event: event.loss)
    ended = seen[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.reason, ended.best_step, ended.best_loss) == ("early_stop", best.step, best.loss)
    assert result.state.step == best.step + 6 < result.steps


def test_loss_falls(tmp_path: Path) -> None:
    seen: list[Event] = []
    settings = SETTINGS.model_copy(update={"epochs": 20})
    _run(tmp_path, settings, strategy="full", sink=seen.append)
    losses = [event.loss for event in seen if isinstance(event, StepDone)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


@pytest.mark.parametrize("batch_tokens", [1, 25, 60, 10_000])
def test_each_epoch_takes_each_row_once(batch_tokens: int) -> None:
    settings = SETTINGS.model_copy(update={"batch_tokens": batch_tokens})
    plan = Plan(TrainingData(ROWS), settings)
    for epoch in range(2):
        first = epoch * plan.steps_per_epoch
        steps = [plan.micro_batches(first + step) for step in range(plan.steps_per_epoch)]
        assert all(steps)
        assert sorted(r for step in steps for chosen in step for r in chosen) == list(range(30))
    assert plan.micro_batches(1 % plan.steps) == Plan(TrainingData(ROWS), settings).micro_batches(
        1 % plan.steps
    )


def test_a_row_longer_than_a_step_still_leaves_each_step_a_row() -> None:
    lengths = np.array([500, 3, 3, 3, 500, 3])
    n_tokens = int(lengths.sum())
    rows = TokenRows(
        np.zeros(n_tokens, np.int32), np.ones(n_tokens, np.float32), np.append(0, lengths.cumsum())
    )
    settings = SETTINGS.model_copy(update={"batch_tokens": 100})
    plan = Plan(TrainingData(rows), settings)
    steps = [plan.micro_batches(step) for step in range(plan.steps_per_epoch)]
    assert sorted(row for step in steps for chosen in step for row in chosen) == list(range(6))
    assert all(steps)


@pytest.mark.parametrize("n_replayed", [0, 4, 9, 20])
def test_replayed_rows_are_drawn_anew_each_epoch(n_replayed: int) -> None:
    plan = Plan(TrainingData(ROWS, replay=POOL, n_replayed=n_replayed), SETTINGS)
    epochs = []
    for epoch in range(3):
        first = epoch * plan.steps_per_epoch
        steps = [plan.micro_batches(first + step) for step in range(plan.steps_per_epoch)]
        numbers = sorted(row for step in steps for chosen in step for row in chosen)
        assert numbers[:30] == list(range(30))
        counts = np.bincount(np.array(numbers[30:], dtype=np.int64) - 30, minlength=9)
        assert counts.sum() == n_replayed
        assert counts.max() - counts.min() <= 1
        epochs.append(numbers[30:])
    if n_replayed == 4:
        assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedule_warms_up_and_ends_at_nothing(schedule: str) -> None:
    settings = SETTINGS.model_copy(update={"schedule": schedule, "warmup": 0.1})
    rates = [settings.learning_rate_at(step, 100) for step in range(100)]
    assert rates[9] == max(rates) == settings.learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02 * settings.learning_rate
