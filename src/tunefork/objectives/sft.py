"""Supervised fine-tuning: make the given answers likely, token by token."""

from __future__ import annotations

from typing import Any, ClassVar

from tunefork.data import Items, Kind
from tunefork.models import loss_on
from tunefork.models.batch import Batch
from tunefork.objectives.protocol import Loss


class Sft:
    """The objective: sum over trained tokens of weight * cross-entropy."""

    name = "sft"
    kind: ClassVar[Kind] = "chat"
    needs_reference = False

    def arrange(self, items: Items) -> Items:
        """Return the rows as they are."""
        return items

    def weight(self, batch: Batch) -> float:
        """Return the weight of all trained tokens."""
        return float(batch.weights.sum())

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss of the batch and its weight."""
        return Loss(total=loss_on(model, batch), weight=batch.weights.sum())
