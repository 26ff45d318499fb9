"""What objectives have in common that learn from pairs of a better and a worse answer."""

from __future__ import annotations

from typing import ClassVar

import torch

from tunefork.data import Items, Kind
from tunefork.models.batch import Batch
from tunefork.objectives.protocol import Loss


class OnPairs:
    """Takes preferences; a pair weighs one, however long its answers are."""

    kind: ClassVar[Kind] = "preference"

    def arrange(self, items: Items) -> Items:
        """Return the pairs as they are: two rows each, the better answer first."""
        return items

    def weight(self, batch: Batch) -> float:
        """Return how many pairs there are."""
        return batch.n_rows / 2


def split_pairs(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what belongs to the better and to the worse answers, both (pairs,)."""
    chosen, rejected = values.view(-1, 2).unbind(dim=1)
    return chosen, rejected


def pair_loss(
    losses: torch.Tensor, chosen_rewards: torch.Tensor, rejected_rewards: torch.Tensor
) -> Loss:
    """Return the summed loss, with how often and by how much the better answer is ahead.

    Args:
        losses: (pairs,).
        chosen_rewards: What the model in training makes the better answers worth, (pairs,).
        rejected_rewards: The same of the worse ones, (pairs,).
    """
    margins = (chosen_rewards - rejected_rewards).detach()
    return Loss(
        total=losses.sum(),
        weight=torch.tensor(float(len(losses))),
        metrics={"accuracy": (margins > 0).sum(), "margin": margins.sum()},
    )
