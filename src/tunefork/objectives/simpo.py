"""Simple preference optimization: better answers likelier per token by a margin, without a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunefork.models.batch import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.losses import simpo_losses
from tunefork.objectives.pairs import OnPairs, pair_loss, split_pairs
from tunefork.objectives.protocol import Loss


@dataclass(frozen=True)
class Simpo(OnPairs):
    """The objective; see `losses.simpo_losses`."""

    beta: float = 2.0
    margin: float = 1.0

    name = "simpo"
    needs_reference = False

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; a reward is beta times the log-probability per token."""
        chosen, rejected = split_pairs(row_log_probs(model, batch).means)
        losses = simpo_losses(chosen, rejected, beta=self.beta, margin=self.margin)
        return pair_loss(losses, self.beta * chosen, self.beta * rejected)
