"""Reward models: a head on an answer's last token tells how good the answer is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tunefork.models import Batch, Head
from tunefork.objectives.losses import reward_losses
from tunefork.objectives.pairs import OnPairs, pair_loss, split_pairs
from tunefork.objectives.protocol import Loss


@dataclass(frozen=True)
class Reward(OnPairs):
    """The objective; see `losses.reward_losses`.

    Attributes:
        centre: How strongly rewards are held around zero.
        head: Of one output, the reward; None before `begin`.
    """

    centre: float = 0.01
    head: Head | None = None

    name = "reward"
    needs_reference = False

    def begin(self, model: Any, seed: int) -> Reward:
        """Return it with a new head for a model."""
        return replace(self, head=Head.new(model, 1, seed))

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss."""
        assert self.head is not None, "it has begun"
        chosen, rejected = split_pairs(self.head.of(model, batch).squeeze(1))
        losses = reward_losses(chosen, rejected, centre=self.centre)
        return pair_loss(losses, chosen, rejected)
