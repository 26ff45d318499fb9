"""The training loop: the only one, for every strategy, objective and device.

Read `train` from top to bottom: the block between the rulers is one optimizer step, what stands
below it happens once in a while. The loop prints nothing; it sends events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from tunefork.core.errors import RunError
from tunefork.core.events import (
    CheckpointSaved,
    Noted,
    RunEnded,
    RunStarted,
    Sink,
    StepDone,
    Warned,
)
from tunefork.data.items import Items
from tunefork.data.tokens import TokenRows
from tunefork.models import Batch, collate, pack
from tunefork.objectives import Loss
from tunefork.training.checkpoint import CheckpointStore, TrainState
from tunefork.training.guards import (
    check_held_out,
    explain_explosion,
    explain_stop,
    has_exploded,
    name_held_out,
    note_loss,
    skip_step,
)
from tunefork.training.interrupt import stop_signals
from tunefork.training.judge import judge
from tunefork.training.optimizer import MasterAdamW
from tunefork.training.packing import Plan, TrainingData
from tunefork.training.prefetch import Ahead
from tunefork.training.rolling import Rolling
from tunefork.training.room import NoRoom, room_for, smaller
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep
from tunefork.training.tally import Mean, Tally


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. The model holds the best weights when `train` returns, unless paused."""

    state: TrainState
    steps: int  # that were planned
    reason: str  # `finished`, `early_stop`, `exploded`, `guarded` or `paused`
    resumed_from: int | None
    trainable_parameters: int


def train(
    step_module: TrainStep,
    parameters: dict[str, nn.Parameter],
    data: TrainingData,
    settings: TrainSettings,
    store: CheckpointStore,
    sink: Sink,
    rate_factors: Mapping[str, float] | None = None,
    pause_at: int | None = None,
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
        rate_factors: By name, how many times the learning rate a parameter moves at.
        pause_at: Save and return after this many steps, with nothing else changed: the same call
            without it goes on to the same bits. The model holds the weights of that step then.

    Raises:
        RunError: The loss is no number or explodes (see `guards`), a single row does not fit
            into memory (see `room`), or a checkpoint cannot be written or is of another version.
        Stopped: The user asked for it; a checkpoint is saved (see `interrupt`).
    """
    device = next(iter(parameters.values())).device
    optimizer = MasterAdamW(parameters, settings, rate_factors)
    validation, plan = data.validation, Plan(data, settings)
    source = _source(step_module, data, plan, device, sink)
    state, resumed_from = _restore(store, optimizer, source, plan, sink)
    settings = _as_small_as_before(settings, state)
    started = _started(step_module, parameters, plan, state, data)
    sink(started)
    if validation is not None and state.base_loss is None:
        base, settings = _held_out(step_module, data, settings, state.step, sink)
        state = replace(state, base_loss=base.loss, base_metrics=base.metrics)
    clock = _Clock(state)
    last = plan.steps if pause_at is None else min(pause_at, plan.steps)

    with source, stop_signals(sink) as stop:
        while state.step < last and not _has_ended(state, settings, source):
            # ------------------------------------------------------------ one optimizer step
            step = source.take(state.step, settings, plan.steps)
            torch.manual_seed(_step_seed(settings.seed, state.step))  # for dropout
            step_module.train()
            tally = Tally()
            try:
                for chosen, batch in step.packed:
                    with room_for(chosen):
                        tally.add(_backward(step_module, batch, step.weight))
                        optimizer.collect()
            except NoRoom as refused:  # nothing has moved: the same step again, cut smaller
                optimizer.drop()
                settings = smaller(settings, refused, step.source, step.name, sink)
                continue
            learning_rate = settings.learning_rate_at(state.step, plan.steps)
            norm = optimizer.step(learning_rate) if tally.is_finite else optimizer.drop()
            # ------------------------------------------------------------------------------
            state = replace(
                state,
                step=state.step + 1,
                tokens=state.tokens + step.n_tokens,
                seconds=clock.seconds(),
                micro_tokens=settings.micro_tokens,
            )
            if math.isfinite(norm):
                mean = tally.mean(step.weight, step.metrics)
                state = note_loss(state, mean.loss)
                source.note(mean.metrics)
                sink(clock.step_done(state, plan, mean, learning_rate, norm))
            else:
                state = skip_step(
                    state, step_module, step.source, step.items, step.name, settings, sink
                )

            is_last, is_stopped = state.step == plan.steps, stop.is_asked
            if validation is not None and _is_due(state.step, settings.validate_every, is_last):
                held_out, settings = _held_out(step_module, data, settings, state.step, sink)
                state, seen = judge(state, held_out, data.watch)
                sink(seen)
                if seen.is_best:
                    store.save_best(state, optimizer.state())
            if _is_due(state.step, settings.checkpoint_every, state.step == last or is_stopped):
                path = store.save(state, optimizer.state() | source.state(state.step))
                sink(CheckpointSaved(state.step, str(path)))
            if is_stopped:
                raise stop.error(state.step, plan.steps)

    reason = _reason(state, plan, settings, source)
    _explain_end(reason, state, settings, source, sink, has_held_out=validation is not None)
    if validation is not None and reason != "paused":
        optimizer.load_masters(store.load_best())
    step_module.eval()
    best_step = state.best_step if validation is not None else state.step
    state = replace(state, best_step=best_step)
    sink(RunEnded(state.step, reason, best_step, state.best_loss, state.seconds))
    return TrainResult(state, plan.steps, reason, resumed_from, started.trainable_parameters)


def _backward(step_module: TrainStep, batch: Batch, weight: float) -> Loss:
    """Add up the gradients of one packed row, and return its summed loss."""
    loss: Loss = step_module(batch)
    torch.autograd.backward(loss.total / weight)
    return loss


@torch.no_grad()
def validate(step_module: TrainStep, rows: TokenRows | Items, settings: TrainSettings) -> Mean:
    """Return the weighted mean loss over rows, and the metrics of the objective.

    Raises:
        NoRoom: `settings.micro_tokens` at once are too many for the memory.
    """
    step_module.eval()
    device = next(step_module.parameters()).device
    tally, weight = Tally(), 0.0
    for chosen in pack(rows, range(len(rows)), settings.micro_tokens):
        with room_for(chosen):
            loss = step_module(collate(rows, chosen, device))
            tally.add(loss)
            weight += float(loss.weight)
    return tally.mean(weight)


def _held_out(
    step_module: TrainStep, data: TrainingData, settings: TrainSettings, step: int, sink: Sink
) -> tuple[Mean, TrainSettings]:
    """Return the held-out loss, and the settings that fitted into memory."""
    if data.rollouts is not None:
        return Mean(*data.rollouts.measure(step)), settings
    assert data.validation is not None, "only asked where rows are held out"
    items = Items.of(data.validation)
    while True:
        try:
            mean = validate(step_module, items, settings)
        except NoRoom as refused:
            settings = smaller(settings, refused, items, name_held_out(data), sink)
            continue
        check_held_out(mean.loss, step, step_module, data, settings)
        return mean, settings


def _source(
    step_module: TrainStep, data: TrainingData, plan: Plan, device: torch.device, sink: Sink
) -> Ahead | Rolling:
    """Return what gives the rows of each step: packed ahead, or drawn when it is their turn."""
    if data.rollouts is not None:
        return Rolling(data, data.rollouts, plan, step_module.objective, sink)
    return Ahead(data, plan.items, device, step_module.objective.weight)


def _restore(
    store: CheckpointStore, optimizer: MasterAdamW, source: Ahead | Rolling, plan: Plan, sink: Sink
) -> tuple[TrainState, int | None]:
    found = store.load_newest()
    if found is None:
        return TrainState(), None
    state, tensors, damaged = found
    for path in damaged:
        sink(Warned(f"the checkpoint {path} is damaged; going on from step {state.step} instead"))
    try:
        optimizer.load_state(tensors)
        source.load_state(state.step, tensors)
    except (KeyError, RuntimeError) as error:  # a tensor is missing, or of another shape
        raise RunError(
            "the checkpoint was written by another version of tunefork",
            where=store.folder,
            hint="go on with that version, or start a new run in a new folder",
        ) from error
    sink(Noted(f"going on from step {state.step} of {plan.steps} in {store.run_folder}"))
    return state, state.step


def _as_small_as_before(settings: TrainSettings, state: TrainState) -> TrainSettings:
    """Return the settings with no more tokens at once than what last fitted into memory."""
    micro_tokens = min(settings.micro_tokens, state.micro_tokens or settings.micro_tokens)
    return settings.model_copy(update={"micro_tokens": micro_tokens})


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


def _has_ended(state: TrainState, settings: TrainSettings, source: Ahead | Rolling) -> bool:
    return _is_stale(state, settings) or has_exploded(state) or source.reason is not None


def _is_stale(state: TrainState, settings: TrainSettings) -> bool:
    return 0 < settings.patience <= state.stale


def _reason(state: TrainState, plan: Plan, settings: TrainSettings, source: Ahead | Rolling) -> str:
    if has_exploded(state):
        return "exploded"
    if source.reason is not None:
        return "guarded"
    if state.step == plan.steps:
        return "finished"
    return "early_stop" if _is_stale(state, settings) else "paused"


def _explain_end(
    reason: str,
    state: TrainState,
    settings: TrainSettings,
    source: Ahead | Rolling,
    sink: Sink,
    *,
    has_held_out: bool,
) -> None:
    """Say why a run ends before its last step, where the user should know."""
    if reason == "exploded":
        explain_explosion(state, settings, sink)
    if source.reason is not None:
        explain_stop(state, source.reason, has_held_out, sink)


class _Clock:
    """Measures this sitting, and adds what earlier sittings took."""

    def __init__(self, state: TrainState) -> None:
        self._before = state
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return self._before.seconds + time.perf_counter() - self._start

    def step_done(
        self, state: TrainState, plan: Plan, mean: Mean, learning_rate: float, norm: float
    ) -> StepDone:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        done = state.step - self._before.step
        return StepDone(
            step=state.step,
            steps=plan.steps,
            epoch=state.step / plan.steps_per_epoch,
            loss=mean.loss,
            learning_rate=learning_rate,
            gradient_norm=norm,
            tokens=state.tokens,
            tokens_per_second=(state.tokens - self._before.tokens) / elapsed,
            seconds_left=elapsed / done * (plan.steps - state.step),
            metrics=mean.metrics,
        )
