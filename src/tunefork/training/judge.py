"""Which weights of a run become its result.

Those with the lowest held-out loss among all that forgot no more than they may; where none kept
to that, the lowest loss alone. Training ends early when the held-out loss has stopped falling,
whatever was forgotten.
"""

from __future__ import annotations

from dataclasses import replace

from tunefork.core.events import Validated
from tunefork.training.checkpoint import TrainState
from tunefork.training.packing import Watch
from tunefork.training.tally import Mean


def judge(state: TrainState, held_out: Mean, watch: Watch | None) -> tuple[TrainState, Validated]:
    """Return the state after a validation, and what there is to tell of it.

    Args:
        state: The state at this step.
        held_out: Loss and metrics on held-out rows.
        watch: What must not be forgotten.
    """
    drop = watch.measure() if watch is not None else None
    if state.lowest_loss is None or held_out.loss < state.lowest_loss:
        state = replace(state, lowest_loss=held_out.loss, stale=0)
    else:
        state = replace(state, stale=state.stale + 1)
    budget = watch.budget if watch is not None else None
    is_best = _is_better(state, held_out.loss, drop, budget)
    if is_best:
        state = replace(
            state,
            best_step=state.step,
            best_loss=held_out.loss,
            best_metrics=held_out.metrics,
            best_drop=drop,
        )
    return state, Validated(state.step, held_out.loss, is_best, held_out.metrics, drop)


def _is_better(state: TrainState, loss: float, drop: float | None, budget: float | None) -> bool:
    if state.best_loss is None:
        return True
    is_within, was_within = _is_within(drop, budget), _is_within(state.best_drop, budget)
    if is_within != was_within:
        return is_within
    return loss < state.best_loss


def _is_within(drop: float | None, budget: float | None) -> bool:
    return drop is None or budget is None or drop <= budget + 1e-9
