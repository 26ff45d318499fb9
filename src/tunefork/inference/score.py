"""Log-probabilities of given answers: for held-out loss, perplexity and multiple choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tunefork.data.tokens import TokenRows
from tunefork.models import collate, losses_on, pack

_MICRO_TOKENS = 4096


@dataclass(frozen=True)
class RowScore:
    """What a model thinks of one row's weighted tokens."""

    log_probability: float  # sum over tokens of weight * ln p(token | all before it)
    weight: float  # sum of weights; the number of trained tokens where each weighs 1

    @property
    def mean(self) -> float:
        """Log-probability per unit of weight."""
        return self.log_probability / self.weight if self.weight else 0.0


@torch.no_grad()
def score_rows(
    model: Any,
    rows: TokenRows,
    *,
    on_rows: Callable[[int], None] | None = None,
    micro_tokens: int = _MICRO_TOKENS,
) -> list[RowScore]:
    """Score rows, in order.

    Args:
        model: What `load_model` returned, adapter attached or not.
        rows: Rows whose weights mark the tokens to score.
        on_rows: Told how many rows are done.
        micro_tokens: How many are computed at once.
    """
    scores: list[RowScore] = [RowScore(0.0, 0.0)] * len(rows)
    done = 0
    for chosen in pack(rows, range(len(rows)), micro_tokens):
        batch = collate(rows, chosen, model.device)
        losses = losses_on(model, batch)
        zeros = torch.zeros(len(chosen), device=model.device)
        sums = zeros.index_add(0, batch.documents, losses * batch.weights).tolist()
        weights = zeros.index_add(0, batch.documents, batch.weights).tolist()
        for index, total, weight in zip(chosen, sums, weights, strict=True):
            scores[index] = RowScore(-total, weight)
        done += len(chosen)
        if on_rows is not None:
            on_rows(done)
    return scores
