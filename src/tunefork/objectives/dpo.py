"""Direct preference optimization: better answers likelier than worse ones, near the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tunefork.models.batch import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.losses import dpo_losses, ipo_losses
from tunefork.objectives.pairs import OnPairs, pair_loss, split_pairs
from tunefork.objectives.protocol import REFERENCE, Loss


@dataclass(frozen=True)
class Dpo(OnPairs):
    """The objective; see `losses.dpo_losses` and `losses.ipo_losses`.

    `form` chooses between the two. With `sft_weight`, the mean cross-entropy of each better
    answer is added, which keeps it from becoming less likely along with the worse one (Pang et
    al. 2024, arXiv 2404.19733). The answers' likelihood ratios to the base are divided by their
    lengths where `is_length_normalized`, and for `ipo` always.
    """

    beta: float = 0.1
    form: Literal["sigmoid", "ipo"] = "sigmoid"
    label_smoothing: float = 0.0
    is_length_normalized: bool = False
    sft_weight: float = 0.0

    name = "dpo"
    needs_reference = True

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the summed loss; a reward is beta times the ratio to the base."""
        found = row_log_probs(model, batch)
        ratios = found.sums - batch.columns[REFERENCE]
        if self.is_length_normalized or self.form == "ipo":
            ratios = ratios / found.weights
        chosen, rejected = split_pairs(ratios)
        if self.form == "ipo":
            losses = ipo_losses(chosen - rejected, beta=self.beta)
        else:
            losses = dpo_losses(
                chosen - rejected, beta=self.beta, label_smoothing=self.label_smoothing
            )
        if self.sft_weight:
            losses = losses - self.sft_weight * split_pairs(found.means)[0]
        return pair_loss(losses, self.beta * chosen, self.beta * rejected)
