"""What keeps a run from being spoiled: losses that are no number, and losses that explode.

Not a number: a step whose loss or gradient norm is not finite is skipped. Weights and moments
stay as they are, its rows count as seen, and a warning names the rows at fault: those whose own
loss is not finite, else all rows of the step, whose gradient overflowed. After 3 skipped steps
in a row the run ends. A held-out loss that is not finite ends it at once, naming the rows.

Exploding: the run has exploded when each of its last 20 steps had a loss above twice, and at
least 1 above, the lowest mean of any 10 steps in a row before. Every step of 20 has to lie that
high, so neither a few hard rows, nor a mix of easy and hard ones, nor the noise of small steps,
nor a tiny loss that wavers fulfils it; a run that recovers within 20 steps goes on. The result is
then the best weights on held-out rows; without any, the run ends with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from tunefork.core.errors import RunError
from tunefork.core.events import Sink, Warned
from tunefork.data.items import Items
from tunefork.data.tokens import TokenRows
from tunefork.models import collate
from tunefork.training.checkpoint import TrainState
from tunefork.training.packing import TrainingData
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep

_MOST_SKIPPED = 3  # steps in a row
_WINDOW = 10  # steps over which the lowest mean is taken
_STREAK = 20  # steps in a row that must lie far above it
_TIMES, _ABOVE = 2.0, 1.0
_SHOWN = 8  # rows named in a message


def name_training(data: TrainingData) -> Callable[[int], str]:
    """Return what to call a row of `TrainingData.together`."""
    own, n_own = data.name_row or (lambda row: f"training row {row + 1}"), len(data.rows)
    return lambda row: own(row) if row < n_own else f"general row {row - n_own + 1}"


def name_held_out(data: TrainingData) -> Callable[[int], str]:
    """Return what to call a held-out row."""
    return data.name_held_out or (lambda row: f"held-out row {row + 1}")


@torch.no_grad()
def rows_at_fault(
    step_module: TrainStep, rows: TokenRows | Items, chosen: Iterable[int]
) -> list[int]:
    """Return the items whose own loss is not finite, each computed alone."""
    step_module.eval()
    device = next(step_module.parameters()).device
    return [
        row
        for row in chosen
        if not math.isfinite(float(step_module(collate(rows, [row], device)).total))
    ]


def skip_step(
    state: TrainState,
    step_module: TrainStep,
    rows: Items,
    chosen: list[int],
    name: Callable[[int], str],
    settings: TrainSettings,
    sink: Sink,
) -> TrainState:
    """Count a step that was skipped, and say which rows are at fault.

    Args:
        state: Where the run stands after the step.
        step_module: Model and objective, the weights as they were before the step.
        rows: What the step's rows are among.
        chosen: The step's rows.
        name: What to call one.
        settings: For what to advise.
        sink: Receives the warning.

    Raises:
        RunError: It is the third in a row.
    """
    state = replace(state, skipped=state.skipped + 1, skipped_in_a_row=state.skipped_in_a_row + 1)
    at_fault = rows_at_fault(step_module, rows, chosen)
    names = _shortened(at_fault or chosen, name)
    why = f"the loss of {names} is no number" if at_fault else f"its gradient overflowed ({names})"
    sink(Warned(f"step {state.step} was skipped, nothing changed: {why}"))
    if state.skipped_in_a_row >= _MOST_SKIPPED:
        raise RunError(
            f"{_MOST_SKIPPED} steps in a row were skipped, the last at step {state.step}: {why}",
            hint=f"{'mend or remove these rows, or ' if at_fault else ''}"
            f"{_lower_rate(settings)}; weights until then are kept in the run's folder",
        )
    return state


def check_held_out(
    loss: float, step: int, step_module: TrainStep, data: TrainingData, settings: TrainSettings
) -> None:
    """Stop where a held-out loss is no number.

    Raises:
        RunError: It names the rows.
    """
    if math.isfinite(loss) or data.validation is None:
        return
    at_fault = rows_at_fault(step_module, data.validation, range(len(data.validation)))
    names = _shortened(at_fault, name_held_out(data)) or "all of them together"
    begin = "before the first step" if step == 0 else f"after step {step}"
    hint = "mend or remove these rows"
    raise RunError(
        f"the held-out loss is no number {begin}: {names}",
        hint=hint if step == 0 else f"{hint}, or {_lower_rate(settings)}",
    )


def note_loss(state: TrainState, loss: float) -> TrainState:
    """Remember a finite loss, and how long it has been far above what it was."""
    lowest = state.lowest_mean
    is_high = lowest is not None and loss > max(_TIMES * lowest, lowest + _ABOVE)
    recent = (*state.recent_losses, loss)[-_WINDOW:]
    if len(recent) == _WINDOW:
        mean = math.fsum(recent) / _WINDOW
        lowest = mean if lowest is None else min(lowest, mean)
    return replace(
        state,
        last_train_loss=loss,
        skipped_in_a_row=0,
        recent_losses=recent,
        lowest_mean=lowest,
        high_in_a_row=state.high_in_a_row + 1 if is_high else 0,
    )


def has_exploded(state: TrainState) -> bool:
    """Say whether the training loss has gone far up and stayed there."""
    return state.high_in_a_row >= _STREAK


def explain_explosion(state: TrainState, settings: TrainSettings, sink: Sink) -> None:
    """Warn that the best weights so far are the result.

    Raises:
        RunError: There are none, since no rows were held out, or none was yet measured.
    """
    what = (
        f"the loss exploded: from {state.lowest_mean:.3g} to {state.last_train_loss:.3g}, "
        f"{_STREAK} steps long until step {state.step}"
    )
    if state.best_loss is None:
        raise RunError(what, hint=_lower_rate(settings))
    sink(
        Warned(
            f"{what}; training ends here, with the weights of step {state.best_step}, which were "
            f"best on held-out rows. To do better, {_lower_rate(settings)}"
        )
    )


def explain_stop(state: TrainState, why: str, has_held_out: bool, sink: Sink) -> None:
    """Warn that a guard of the rows' source ends the run, with the best weights so far.

    Where nothing is held out, they are the last ones.

    Raises:
        RunError: Nothing was yet measured on what is held out.
    """
    shown = "`samples.jsonl` in the run's folder shows the answers"
    if not has_held_out:
        sink(Warned(f"{why}; training ends here, with its last weights. {shown}"))
        return
    if state.best_loss is None:
        raise RunError(
            why,
            hint="look at `samples.jsonl` in the run's folder; other rewards, more `kl` or a lower "
            "`training.learning_rate` may help",
        )
    sink(
        Warned(
            f"{why}; training ends here, with the weights of step {state.best_step}, which did "
            f"best on held-out prompts. {shown}"
        )
    )


def _lower_rate(settings: TrainSettings) -> str:
    rate = settings.learning_rate
    return (
        f"start again with a lower `training.learning_rate` (it is {rate:.2g}; try {rate / 3:.2g})"
    )


def _shortened(rows: list[int], name: Callable[[int], str]) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(name(row) for row in rows[:_SHOWN]) + more
