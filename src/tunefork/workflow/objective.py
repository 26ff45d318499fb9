"""The objective that a spec asks for, and what it needs to know of the base beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from tunefork.core.events import Sink
from tunefork.data import Items
from tunefork.models import Base, Head, Quantization
from tunefork.objectives import (
    Classify,
    ClassifyNames,
    ClassifySeveral,
    Objective,
    Ppo,
    Reward,
    WithReplay,
    is_replayed_apart,
    with_reference,
)
from tunefork.strategies import HEAD_TENSOR
from tunefork.training import TrainingData
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Spec


def build_objective(spec: Spec, model: Any, prepared: Prepared) -> tuple[Objective, Head | None]:
    """Return the objective, with replayed rows beside its own, and the head that it trains.

    Args:
        spec: What is asked for.
        model: The base as loaded.
        prepared: What is learned from.
    """
    objective, head = spec.objective.build(), None
    if isinstance(objective, Classify | ClassifySeveral | ClassifyNames):
        assert prepared.labelling is not None, "the rows have labels"
        n_labels, items = len(prepared.labelling.names), Items.of(prepared.data.rows)
        objective = objective.begin(model, items, n_labels, spec.training.seed)
        head = objective.head
    if isinstance(objective, Reward):
        objective = objective.begin(model, spec.training.seed)
        head = objective.head
    if isinstance(objective, Ppo):
        objective = objective.begin(model)
        head = objective.head
    if spec.data.replay and is_replayed_apart(objective):
        objective = WithReplay(objective)
    return objective, head


def head_parameters(head: Head | None) -> dict[str, nn.Parameter]:
    """Return what of a head is trained, by the name that it is saved under."""
    return {} if head is None else {HEAD_TENSOR: head.weight}


def kept_head(spec: Spec, head: Head | None) -> Head | None:
    """Return the head where it is part of the result: what `ppo` expects is not."""
    return None if spec.objective.name == "ppo" else head


def with_references(
    objective: Objective,
    model: Any,
    data: TrainingData,
    base: Base,
    sink: Sink,
    quantization: Quantization | None = None,
) -> TrainingData:
    """Return the data with what the base makes of it, where the objective needs that.

    Args:
        objective: What will be learned.
        model: The base as loaded, with nothing attached to it.
        data: What it will be learned from.
        base: Where the model was loaded from.
        sink: Told how far it is.
        quantization: How the model is kept, which decides what it computes.
    """
    if not objective.needs_reference:
        return data
    identity = {"base": base.hash(), **({"kept": quantization} if quantization else {})}

    def referred(items: Items, what: str) -> Items:
        return with_reference(model, items, identity, what, sink)

    validation = data.validation
    return replace(
        data,
        rows=referred(Items.of(data.rows), "the rows to train on"),
        validation=validation and referred(Items.of(validation), "the rows held out"),
    )
