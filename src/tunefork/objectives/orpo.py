"""Odds ratio preference optimization: learn better answers and their odds, without a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunefork.models.batch import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.losses import orpo_losses
from tunefork.objectives.pairs import OnPairs, pair_loss, split_pairs
from tunefork.objectives.protocol import Loss


@dataclass(frozen=True)
class Orpo(OnPairs):
    """The objective; see `losses.orpo_losses`."""

    odds_weight: float = 0.1

    name = "orpo"
    needs_reference = False

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; a reward is the log-probability per token."""
        chosen, rejected = split_pairs(row_log_probs(model, batch).means)
        losses = orpo_losses(chosen, rejected, weight=self.odds_weight)
        return pair_loss(losses, chosen, rejected)
