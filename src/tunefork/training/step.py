"""The one module that a device runs: a batch in, (loss sum, weight, metrics) out.

Everything that takes part in the backward pass is inside, the output head included, so that
wrappers for several devices see all of it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tunefork.models import Batch
from tunefork.objectives import Loss, Objective


class TrainStep(nn.Module):
    """A model and an objective, as one module."""

    def __init__(self, model: Any, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Loss:
        """Return the summed loss of a batch and its weight."""
        return self.objective.loss(self.model, batch)
