"""The training loop: the only one, for every strategy, objective and device.

Read `train` from top to bottom: the block between the rulers is one optimizer step, what stands
below it happens once in a while. The loop prints nothing; it sends events.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from tunefork.core.errors import RunError
from tunefork.core.events import (
    CheckpointSaved,
    RunEnded,
    RunStarted,
    Sink,
    StepDone,
    Validated,
    Warned,
)
from tunefork.data.tokens import TokenRows
from tunefork.models import collate, pack_by_tokens
from tunefork.training.checkpoint import CheckpointStore, TrainState
from tunefork.training.optimizer import MasterAdamW
from tunefork.training.packing import Plan, TrainingData
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. The model holds the best weights when `train` returns."""

    state: TrainState
    steps: int  # that were planned
    reason: str  # `finished` or `early_stop`
    resumed_from: int | None
    trainable_parameters: int


def train(
    step_module: TrainStep,
    parameters: dict[str, nn.Parameter],
    data: TrainingData,
    settings: TrainSettings,
    store: CheckpointStore,
    sink: Sink,
) -> TrainResult:
    """Train until the last step or until the held-out loss stops falling.

    Where the store holds a checkpoint, the run goes on from it to the same bits as if it had
    never stopped: the rows of a step and its random numbers follow from seed and step alone.

    Args:
        step_module: Model and objective.
        parameters: What to train, by name.
        data: Rows to train on, and held-out rows for choosing the best weights.
        settings: See `TrainSettings`.
        store: Where checkpoints go.
        sink: Receives the events.

    Raises:
        RunError: The loss is not a number, or a checkpoint cannot be written.
    """
    device = next(iter(parameters.values())).device
    optimizer = MasterAdamW(parameters, settings)
    rows, validation = data.together(), data.validation
    plan = Plan(data, settings)
    state, resumed_from = _restore(store, optimizer, sink)
    started = _started(step_module, parameters, plan, state, data)
    sink(started)
    if validation is not None and state.base_loss is None:
        state = replace(state, base_loss=validation_loss(step_module, validation, settings))
    clock = _Clock(state)

    while state.step < plan.steps and not _is_stale(state, settings):
        # ---------------------------------------------------------------- one optimizer step
        torch.manual_seed(_step_seed(settings.seed, state.step))  # for dropout
        step_module.train()
        micro_batches = plan.micro_batches(state.step)
        batches = [collate(rows, chosen, device) for chosen in micro_batches]
        weight = sum(float(batch.weights.sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = step_module(batch)
            (loss.total / weight).backward()
            optimizer.collect()
            total += float(loss.total.detach())
        learning_rate = settings.learning_rate_at(state.step, plan.steps)
        norm = optimizer.step(learning_rate)
        # ----------------------------------------------------------------------------------
        train_loss = total / weight
        _check_finite(train_loss, norm, state.step, micro_batches)
        n_tokens = sum(batch.n_tokens for batch in batches)
        state = replace(
            state,
            step=state.step + 1,
            tokens=state.tokens + n_tokens,
            seconds=clock.seconds(),
            last_train_loss=train_loss,
        )
        sink(clock.step_done(state, plan, train_loss, learning_rate, norm))

        is_last = state.step == plan.steps
        if validation is not None and _is_due(state.step, settings.validate_every, is_last):
            loss_now = validation_loss(step_module, validation, settings)
            if not math.isfinite(loss_now):
                raise _not_a_number("held-out loss", state.step, "")
            state = _judge(state, loss_now)
            sink(Validated(state.step, loss_now, is_best=state.stale == 0))
            if state.stale == 0:
                store.save_best(state, optimizer.state())
        if _is_due(state.step, settings.checkpoint_every, is_last):
            path = store.save(state, optimizer.state())
            sink(CheckpointSaved(state.step, str(path)))

    if validation is not None:
        optimizer.load_masters(store.load_best())
    step_module.eval()
    reason = "finished" if state.step == plan.steps else "early_stop"
    best_step = state.best_step if validation is not None else state.step
    state = replace(state, best_step=best_step)
    sink(RunEnded(state.step, reason, best_step, state.best_loss, state.seconds))
    return TrainResult(state, plan.steps, reason, resumed_from, started.trainable_parameters)


@torch.no_grad()
def validation_loss(step_module: TrainStep, rows: TokenRows, settings: TrainSettings) -> float:
    """Return the weighted mean loss over rows."""
    step_module.eval()
    device = next(step_module.parameters()).device
    order = sorted(range(len(rows)), key=lambda index: -int(rows.lengths[index]))
    total = weight = 0.0
    for chosen in pack_by_tokens(rows.lengths, order, settings.micro_tokens):
        loss = step_module(collate(rows, chosen, device))
        total += float(loss.total)
        weight += float(loss.weight)
    return total / weight


def _restore(
    store: CheckpointStore, optimizer: MasterAdamW, sink: Sink
) -> tuple[TrainState, int | None]:
    found = store.load_newest()
    if found is None:
        return TrainState(), None
    state, tensors, damaged = found
    for path in damaged:
        sink(Warned(f"the checkpoint {path} is damaged; going on from step {state.step} instead"))
    optimizer.load_state(tensors)
    return state, state.step


def _started(
    step_module: TrainStep,
    parameters: dict[str, nn.Parameter],
    plan: Plan,
    state: TrainState,
    data: TrainingData,
) -> RunStarted:
    return RunStarted(
        steps=plan.steps,
        step=state.step,
        trainable_parameters=sum(parameter.numel() for parameter in parameters.values()),
        total_parameters=sum(parameter.numel() for parameter in step_module.parameters()),
        tokens_per_epoch=data.tokens_per_epoch,
    )


def _step_seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % (1 << 63)


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return is_last or (every > 0 and step % every == 0)


def _is_stale(state: TrainState, settings: TrainSettings) -> bool:
    return 0 < settings.patience <= state.stale


def _judge(state: TrainState, loss: float) -> TrainState:
    if state.best_loss is None or loss < state.best_loss:
        return replace(state, best_loss=loss, best_step=state.step, stale=0)
    return replace(state, stale=state.stale + 1)


def _check_finite(loss: float, norm: float, step: int, micro_batches: list[list[int]]) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    rows = sorted(row + 1 for chosen in micro_batches for row in chosen)
    shown = ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")
    raise _not_a_number("loss", step + 1, f" (training rows {shown})")


def _not_a_number(what: str, step: int, rows: str) -> RunError:
    return RunError(
        f"the {what} is no longer a number at step {step}{rows}",
        hint="lower `training.learning_rate`, and look at the rows of the data around there",
    )


class _Clock:
    """Measures this sitting, and adds what earlier sittings took."""

    def __init__(self, state: TrainState) -> None:
        self._before = state
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return self._before.seconds + time.perf_counter() - self._start

    def step_done(
        self, state: TrainState, plan: Plan, loss: float, learning_rate: float, norm: float
    ) -> StepDone:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        done = state.step - self._before.step
        return StepDone(
            step=state.step,
            steps=plan.steps,
            epoch=state.step / plan.steps_per_epoch,
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=norm,
            tokens=state.tokens,
            tokens_per_second=(state.tokens - self._before.tokens) / elapsed,
            seconds_left=elapsed / done * (plan.steps - state.step),
        )
