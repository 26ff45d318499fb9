"""What an objective is: what is learned from a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from tunefork.data import Items, Kind
from tunefork.models.batch import Batch

REFERENCE = "reference"  # the column of the base's own log-probability of each row


@dataclass(frozen=True)
class Loss:
    """A sum and its weight: the loop divides once, over all that makes up a step."""

    total: torch.Tensor  # scalar, float32
    weight: torch.Tensor  # scalar
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)  # sums as well; scalars


class Objective(Protocol):
    """Computes the loss of one batch."""

    @property
    def name(self) -> str:
        """What a spec calls it."""
        ...

    @property
    def kind(self) -> Kind:
        """What kind of row it learns from."""
        ...

    @property
    def needs_reference(self) -> bool:
        """Whether its items get the column `REFERENCE` before the first step."""
        ...

    def arrange(self, items: Items) -> Items:
        """Return the user's rows of one file as the items that are trained on."""
        ...

    def weight(self, batch: Batch) -> float:
        """Return what a batch weighs in its step: known before it is computed."""
        ...

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss of the batch, its weight, and what else is worth telling."""
        ...
