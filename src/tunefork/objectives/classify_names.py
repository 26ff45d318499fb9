"""Classification without a head: the model learns to write the name of a text's label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from tunefork.data import Items, Kind
from tunefork.models import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.classify import LABEL, class_weights, weights_of
from tunefork.objectives.protocol import Loss


@dataclass(frozen=True)
class ClassifyNames:
    """The objective: sum over texts of class weight * -ln p(name of the label | text).

    A text weighs as much whatever the length of its label's name. In use only the names of labels
    are looked at, see `inference.NameScorer`.

    Attributes:
        balance: See `class_weights`.
        weights: (labels,) float32, those of the texts; None before `begin`.
    """

    balance: float = 0.0
    weights: torch.Tensor | None = None

    name = "classify"
    kind: ClassVar[Kind] = "labelled"
    needs_reference = False

    def begin(self, model: Any, items: Items, n_labels: int, seed: int) -> ClassifyNames:
        """Return it with the weights of the texts to train on; there is no head to draw."""
        weights = class_weights(items.columns[LABEL], n_labels, self.balance)
        return replace(self, weights=weights.to(model.device))

    @property
    def head(self) -> None:
        """None: the model's own output says it."""
        return None

    def arrange(self, items: Items) -> Items:
        """Return the texts with their labels' names behind them, as they are."""
        return items

    def weight(self, batch: Batch) -> float:
        """Return the class weights of all texts."""
        return float(weights_of(batch, self.weights).sum())

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss."""
        weights = weights_of(batch, self.weights)
        found = row_log_probs(model, batch).sums
        return Loss(total=-(weights * found).sum(), weight=weights.sum())
