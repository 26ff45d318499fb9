"""Group relative policy optimization: of several answers to a prompt, the better ones likelier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from tunefork.data import Items, Kind
from tunefork.models.batch import Batch
from tunefork.models.log_probs import log_probs_on
from tunefork.objectives.policy_losses import divergences, policy_losses
from tunefork.objectives.protocol import Loss

ADVANTAGE = "advantage"  # the column, or what stands along each answer: how much better it was
OLD = "old"  # along each answer: its log-probability when it was drawn
BASE = "base"  # along each answer: its log-probability by the base


@dataclass(frozen=True)
class Grpo:
    """The objective; see `policy_losses.policy_losses` and `policy_losses.divergences`.

    Attributes:
        kl: What a nat of divergence from the base costs; 0 asks for no base.
        clip_low: How far below 1 the ratio to the drawing policy still counts.
        clip_high: How far above.
        average: `answer` is the mean over each answer's tokens, then over answers (GRPO); `token`
            the mean over all tokens (DAPO); `constant` the sum over tokens, divided by the longest
            answer there may be (Dr. GRPO).
        longest: Tokens of the longest answer there may be.
    """

    kl: float = 0.04
    clip_low: float = 0.2
    clip_high: float = 0.2
    average: Literal["answer", "token", "constant"] = "answer"
    longest: int = 1

    name = "grpo"
    kind: ClassVar[Kind] = "prompts"
    needs_reference = False

    def arrange(self, items: Items) -> Items:
        """Return the prompts as they are."""
        return items

    def weight(self, batch: Batch) -> float:
        """Return what the batch weighs: its answers, its tokens, or its room for tokens."""
        if self.average == "token":
            return float(batch.weights.sum())
        return float(batch.n_rows * (self.longest if self.average == "constant" else 1))

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss.

        Answers without `OLD` are in their first pass: the policy that drew them is this one.
        """
        log_probs = log_probs_on(model, batch)
        losses, is_cut = policy_losses(
            log_probs,
            batch.along.get(OLD, log_probs.detach()),
            batch.columns[ADVANTAGE][batch.documents],
            clip_low=self.clip_low,
            clip_high=self.clip_high,
        )
        weight = self.weight(batch)
        metrics = {"clipped": weight * _mean(is_cut, batch)}
        if self.kl:
            apart = divergences(log_probs, batch.along[BASE])
            losses = losses + self.kl * apart
            metrics["kl"] = weight * _mean(apart.detach(), batch)
        return Loss(self._sum(losses, batch), torch.tensor(weight), metrics)

    def _sum(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        weighted = losses * batch.weights
        if self.average != "answer":
            return weighted.sum()
        zeros = torch.zeros(batch.n_rows, device=losses.device)
        sums = zeros.index_add(0, batch.documents, weighted)
        counts = zeros.index_add(0, batch.documents, batch.weights)
        return (sums / counts.clamp(min=1)).sum()


def _mean(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    return (values * batch.weights).sum() / batch.weights.sum().clamp(min=1)
