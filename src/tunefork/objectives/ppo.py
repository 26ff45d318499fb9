"""Proximal policy optimization: answers that earned more than was expected become likelier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from tunefork.data import Items, Kind
from tunefork.models import Batch, Head
from tunefork.models.log_probs import log_probs_and_hidden
from tunefork.objectives.grpo import ADVANTAGE, OLD
from tunefork.objectives.policy_losses import policy_losses, value_losses
from tunefork.objectives.protocol import Loss

VALUE = "value"  # along each answer: what was expected before each token when it was drawn
RETURN = "return"  # along each answer: what came of it from each token on


@dataclass(frozen=True)
class Ppo:
    """The objective; see `policy_losses.policy_losses` and `policy_losses.value_losses`.

    The divergence from the base is part of the rewards, not of the loss.

    Attributes:
        clip: How far from 1 the ratio to the drawing policy still counts.
        value_clip: How far a value may move from what it was when the answers were drawn.
        value_weight: Of the values' loss beside the policy's.
        head: Of one output: what is expected before each token; None before `begin`.
    """

    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    head: Head | None = None

    name = "ppo"
    kind: ClassVar[Kind] = "prompts"
    needs_reference = False

    def begin(self, model: Any) -> Ppo:
        """Return it with a new head for a model, which expects nothing."""
        size = model.get_input_embeddings().weight.shape[1]
        return replace(self, head=Head(torch.zeros(1, size, device=model.device)))

    def arrange(self, items: Items) -> Items:
        """Return the prompts as they are."""
        return items

    def weight(self, batch: Batch) -> float:
        """Return how many tokens the answers have."""
        return float(batch.weights.sum())

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss."""
        assert self.head is not None, "it has begun"
        log_probs, hidden = log_probs_and_hidden(model, batch)
        losses, is_cut = policy_losses(
            log_probs,
            batch.along[OLD],
            batch.along[ADVANTAGE],
            clip_low=self.clip,
            clip_high=self.clip,
        )
        of_values = value_losses(
            self.head.on(hidden).squeeze(1),
            batch.along[VALUE],
            batch.along[RETURN],
            clip=self.value_clip,
        )
        total = ((losses + self.value_weight * of_values) * batch.weights).sum()
        metrics = {
            "clipped": (is_cut * batch.weights).sum(),
            "value_loss": (of_values.detach() * batch.weights).sum(),
        }
        return Loss(total, batch.weights.sum(), metrics)
