"""Classification with several labels per text: a head tells of each label whether it fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from tunefork.data import Items, Kind
from tunefork.data.items import Column
from tunefork.models import Batch, Head
from tunefork.objectives.classify import LABEL, without_answers
from tunefork.objectives.protocol import Loss


@dataclass(frozen=True)
class ClassifySeveral:
    """The objective: sum over texts and labels of the cross-entropy of "it has the label".

    -(w(c) y ln sigma(z) + (1 - y) ln sigma(-z)) for each label c, with y = 1 where the text has it
    and z what the head says of it; labels are told apart from nothing, not from each other.

    Attributes:
        balance: See `label_weights`.
        head: One output per label; None before `begin`.
        weights: (labels,) float32, w; None before `begin`.
    """

    balance: float = 0.0
    head: Head | None = None
    weights: torch.Tensor | None = None

    name = "classify"
    kind: ClassVar[Kind] = "labelled"
    needs_reference = False

    def begin(self, model: Any, items: Items, n_labels: int, seed: int) -> ClassifySeveral:
        """Return it with a new head for a model, and the weights of the labels."""
        weights = label_weights(items.columns[LABEL], self.balance)
        head = Head.new(model, n_labels, seed)
        return replace(self, head=head, weights=weights.to(model.device))

    def arrange(self, items: Items) -> Items:
        """Return the texts alone, as a model is asked for their answer."""
        return without_answers(items)

    def weight(self, batch: Batch) -> float:
        """Return how many texts there are."""
        return float(batch.n_rows)

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; the accuracy is the share of labels told rightly."""
        assert self.head is not None, "it has begun"
        logits, has = self.head.of(model, batch), batch.columns[LABEL]  # both (rows, labels)
        losses = functional.binary_cross_entropy_with_logits(
            logits, has, pos_weight=self.weights, reduction="none"
        )
        is_right = ((logits > 0) == (has > 0)).float()
        return Loss(
            total=losses.sum(),
            weight=torch.tensor(float(batch.n_rows)),
            metrics={"accuracy": is_right.mean(dim=1).sum()},
        )


def label_weights(has: Column, balance: float) -> torch.Tensor:
    """Return how much more it weighs that a text has a label than that it has not: (labels,).

    (texts without it / texts with it) ** balance: 0 weighs both alike.

    Args:
        has: (texts, labels), 1 where a text has a label.
        balance: From 0 to 1.
    """
    there = np.maximum(has.sum(axis=0), 1.0)
    weights = np.maximum((len(has) - there) / there, 1 / max(len(has), 1)) ** balance
    return torch.from_numpy(weights.astype(np.float32))
