"""What an objective is: what is learned from a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tunefork.models.batch import Batch


@dataclass(frozen=True)
class Loss:
    """A sum and its weight: the loop divides once, over all that makes up a step."""

    total: torch.Tensor  # scalar, float32
    weight: torch.Tensor  # scalar
    metrics: dict[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """Computes the loss of one batch."""

    name: str

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss of the batch and its weight."""
        ...
