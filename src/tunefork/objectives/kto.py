"""Kahneman-Tversky optimization: learn from answers that were judged good or bad one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from tunefork.data import Items, Kind, Rendered, TokenRows
from tunefork.models.batch import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.losses import kto_divergence, kto_losses
from tunefork.objectives.protocol import REFERENCE, Loss

_IS_GOOD = "is_good"  # the column that judged rows come with


@dataclass(frozen=True)
class Kto:
    """The objective; see `losses.kto_losses`.

    The divergence from the base is estimated over each packed row, as the paper does over each
    microbatch, so what is computed at once has a part in the result.
    """

    beta: float = 0.1
    good_weight: float = 1.0
    bad_weight: float = 1.0

    name = "kto"
    kind: ClassVar[Kind] = "judged"
    needs_reference = True

    def arrange(self, items: Items) -> Items:
        """Return each judged row with a second: its question, answered by the row after it.

        The paper shifts answers within each batch. Here the partner is the same for the whole
        run, so that what the base makes of it has to be computed only once.
        """
        if not len(items):
            return items
        parts = [items.rows.row(number) for number in range(len(items.rows))]
        begins = [int(np.flatnonzero(weights)[0]) for _, weights in parts]
        longest = int(items.rows.lengths.max())  # what the base takes, for all that is known here
        mixed = []
        for number, (ids, weights) in enumerate(parts):
            other = (number + 1) % len(parts)
            asked, answered = slice(0, begins[number]), slice(begins[other], None)
            mixed.append(
                Rendered(
                    np.concatenate([ids[asked], parts[other][0][answered]])[:longest].tolist(),
                    np.concatenate([weights[asked], parts[other][1][answered]])[:longest].tolist(),
                )
            )
        order = np.arange(2 * len(parts)).reshape(2, -1).T.ravel()  # each beside its second
        rows = TokenRows.concatenate([items.rows, TokenRows.from_rendered(mixed)]).select(order)
        is_good = np.repeat(items.columns[_IS_GOOD], 2)
        return Items(rows, np.arange(0, len(order) + 1, 2), {_IS_GOOD: is_good})

    def weight(self, batch: Batch) -> float:
        """Return how many answers are judged."""
        return batch.n_rows / 2

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; a reward is beta times the ratio to the base."""
        ratios = row_log_probs(model, batch).sums - batch.columns[REFERENCE]
        judged, mixed = ratios.view(-1, 2).unbind(dim=1)
        is_good = batch.columns[_IS_GOOD].view(-1, 2)[:, 0]
        kl = kto_divergence(mixed)
        losses = kto_losses(
            judged,
            is_good,
            kl,
            beta=self.beta,
            good_weight=self.good_weight,
            bad_weight=self.bad_weight,
        )
        ahead = self.beta * (2 * is_good - 1) * (judged.detach() - kl)
        return Loss(
            total=losses.sum(),
            weight=torch.tensor(float(len(losses))),
            metrics={
                "accuracy": (ahead > 0).sum(),
                "margin": ahead.sum(),
                "kl": kl * len(losses),
            },
        )
