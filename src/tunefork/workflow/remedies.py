"""What there is to do about a run that forgot too much, and what of its spec that changes.

By name:

    scale    keep less of the learned change: no training, a minute
    replay   train again with more general rows mixed in
    rate     train again at a third of the learning rate
    epochs   train again for a third of the epochs
"""

from __future__ import annotations

from typing import Any, Literal

from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.strategy_specs import LoraSpec

Remedy = Literal["scale", "replay", "rate", "epochs"]

_LEAST_REPLAY, _MORE_REPLAY, _MOST_REPLAY = 0.3, 0.2, 0.6
_FRACTION = 3  # of rate or epochs


def offered(spec: Spec) -> dict[str, str]:
    """Return the remedies that a run of this spec allows: (name, what it does)."""
    training, found = spec.training, {}
    if isinstance(spec.strategy, LoraSpec) and not spec.strategy.dora:
        found["scale"] = "keep less of the learned change, as much as stays within the budget"
    if _more_replay(spec) > spec.data.replay:
        found["replay"] = f"train again with {_more_replay(spec):.0%} general rows mixed in"
    if training.learning_rate != "auto":
        found["rate"] = f"train again at a rate of {training.learning_rate / _FRACTION:.2g}"
    if training.epochs != "auto" and training.epochs > 1:
        found["epochs"] = f"train again for {_fewer_epochs(spec)} of {training.epochs} epochs"
    return found


def changed(project: Project, by: str) -> Project:
    """Return the project that a remedy trains anew."""
    spec = project.spec
    if by == "replay":
        data = spec.data.model_copy(update={"replay": _more_replay(spec)})
        return project.model_copy(update={"spec": spec.model_copy(update={"data": data})})
    assert spec.training.learning_rate != "auto", "a stored spec has numbers"
    change: dict[str, Any] = (
        {"learning_rate": spec.training.learning_rate / _FRACTION}
        if by == "rate"
        else {"epochs": _fewer_epochs(spec)}
    )
    training = spec.training.model_copy(update=change)
    return project.model_copy(update={"spec": spec.model_copy(update={"training": training})})


def _more_replay(spec: Spec) -> float:
    given = spec.data.replay
    return max(given, min(_MOST_REPLAY, max(_LEAST_REPLAY, given + _MORE_REPLAY)))


def _fewer_epochs(spec: Spec) -> int:
    assert spec.training.epochs != "auto", "a stored spec has numbers"
    return max(1, spec.training.epochs // _FRACTION)
