"""Classification: a head on the last token of a text tells its label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from tunefork.data import Items, Kind, Rendered, TokenRows
from tunefork.data.items import Column
from tunefork.models import Batch, Head
from tunefork.objectives.protocol import Loss

LABEL = "label"  # the column of each row's label, by its number; of several a 1 for each


@dataclass(frozen=True)
class Classify:
    """The objective: sum over texts of class weight * cross-entropy of the label.

    Attributes:
        balance: See `class_weights`.
        head: One output per label; None before `begin`.
        weights: (labels,) float32, those of the texts; None before `begin`.
    """

    balance: float = 0.0
    head: Head | None = None
    weights: torch.Tensor | None = None

    name = "classify"
    kind: ClassVar[Kind] = "labelled"
    needs_reference = False

    def begin(self, model: Any, items: Items, n_labels: int, seed: int) -> Classify:
        """Return it with a new head for a model, and the weights of the texts to train on."""
        weights = class_weights(items.columns[LABEL], n_labels, self.balance)
        head = Head.new(model, n_labels, seed)
        return replace(self, head=head, weights=weights.to(model.device))

    def arrange(self, items: Items) -> Items:
        """Return the texts alone, as a model is asked for their answer."""
        return without_answers(items)

    def weight(self, batch: Batch) -> float:
        """Return the class weights of all texts."""
        return float(weights_of(batch, self.weights).sum())

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; the accuracy is weighed as the loss is."""
        assert self.head is not None, "it has begun"
        logits, labels = self.head.of(model, batch), batch.columns[LABEL].long()
        weights = weights_of(batch, self.weights)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        is_right = (logits.argmax(dim=1) == labels).float()
        return Loss(
            total=(weights * losses).sum(),
            weight=weights.sum(),
            metrics={"accuracy": (weights * is_right).sum()},
        )


def weights_of(batch: Batch, weights: torch.Tensor | None) -> torch.Tensor:
    """Return what each text of a batch weighs, by the weights of the labels: (rows,)."""
    assert weights is not None, "it has begun"
    return weights[batch.columns[LABEL].long()]


def class_weights(labels: Column, n_labels: int, balance: float) -> torch.Tensor:
    """Return what a text of each label weighs: (labels,), 1 on average over the texts.

    weight(c) ~ (1 / count(c)) ** balance: 0 weighs every text alike, 1 every label.
    """
    counts = np.bincount(labels.astype(np.int64), minlength=n_labels)
    weights = np.maximum(counts, 1.0) ** -balance
    weights *= counts.sum() / (weights * counts).sum()
    return torch.from_numpy(weights.astype(np.float32))


def without_answers(items: Items) -> Items:
    """Return each row up to its first trained token, with nothing to predict."""
    rows = [items.rows.row(number) for number in range(len(items.rows))]
    trained = [np.flatnonzero(weights) for _, weights in rows]
    asked = [
        Rendered(ids[:end].tolist(), [0.0] * end)
        for (ids, _), places in zip(rows, trained, strict=True)
        for end in [int(places[0]) if len(places) else len(ids)]
    ]
    return Items(TokenRows.from_rendered(asked), items.starts, items.columns)
