"""Supervised fine-tuning: make the given answers likely, token by token."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from tunefork.models import run_on
from tunefork.models.batch import Batch
from tunefork.objectives.protocol import Loss


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -log softmax(logits)[target] of each place, in float32.

    Args:
        logits: (places, vocabulary).
        targets: (places,).

    Returns:
        (places,).
    """
    return functional.cross_entropy(logits.float(), targets, reduction="none")


class Sft:
    """The objective: sum over trained tokens of weight * cross-entropy."""

    name = "sft"

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss of the batch and its weight."""
        logits = run_on(model, batch.ids, batch.layout, batch.keep)
        losses = cross_entropy(logits, batch.targets)
        return Loss(total=(losses * batch.weights).sum(), weight=batch.weights.sum())
