"""What there is to do about a run that forgot too much, and what of its spec that changes.

By name, and in the order in which they are worth a try:

    gentle   train again with more general rows mixed in, at a third of the learning rate
    replay   train again with more general rows mixed in
    rate     train again at a third of the learning rate
    scale    keep less of the learned change: no training, a minute
    epochs   train again for a third of the epochs
"""

from __future__ import annotations

from typing import Literal

from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.strategy_specs import LoraSpec

Remedy = Literal["gentle", "replay", "rate", "scale", "epochs"]

_LEAST_REPLAY, _MORE_REPLAY, _MOST_REPLAY = 0.3, 0.2, 0.6
_FRACTION = 3  # of rate or epochs


def offered(spec: Spec) -> dict[str, str]:
    """Return the remedies that a run of this spec allows, the most promising first."""
    training, found = spec.training, {}
    rows = rate = ""
    if _more_replay(spec) > spec.data.replay:
        rows = f"{_more_replay(spec):.0%} general rows mixed in"
    if training.learning_rate != "auto":
        rate = f"at a rate of {training.learning_rate / _FRACTION:.2g}"
    if rows and rate:
        found["gentle"] = f"train again with {rows}, {rate}"
    if rows:
        found["replay"] = f"train again with {rows}"
    if rate:
        found["rate"] = f"train again {rate}"
    if isinstance(spec.strategy, LoraSpec) and not spec.strategy.dora:
        found["scale"] = "keep less of the learned change, as much as stays within the budget"
    if training.epochs != "auto" and training.epochs > 1:
        found["epochs"] = f"train again for {_fewer_epochs(spec)} of {training.epochs} epochs"
    return found


def changed(project: Project, by: str) -> Project:
    """Return the project that a remedy trains anew."""
    spec, training = project.spec, project.spec.training
    assert training.learning_rate != "auto", "a stored spec has numbers"
    data = spec.data
    if by in ("gentle", "replay"):
        data = data.model_copy(update={"replay": _more_replay(spec)})
    if by in ("gentle", "rate"):
        rate = training.learning_rate / _FRACTION
        training = training.model_copy(update={"learning_rate": rate})
    if by == "epochs":
        training = training.model_copy(update={"epochs": _fewer_epochs(spec)})
    changes = {"data": data, "training": training}
    return project.model_copy(update={"spec": spec.model_copy(update=changes)})


def _more_replay(spec: Spec) -> float:
    given = spec.data.replay
    return max(given, min(_MOST_REPLAY, max(_LEAST_REPLAY, given + _MORE_REPLAY)))


def _fewer_epochs(spec: Spec) -> int:
    assert spec.training.epochs != "auto", "a stored spec has numbers"
    return max(1, spec.training.epochs // _FRACTION)
