"""Log-probabilities of rows: what comparing, judging and rewarding objectives are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from tunefork.models.batch import Batch
from tunefork.models.fused.log_probs import log_probabilities
from tunefork.models.run import hidden_on, losses_on


class RowLogProbs(NamedTuple):
    """Of each row of a batch, both (rows,) float32."""

    sums: torch.Tensor  # over its trained tokens of weight * ln p(token | all before it)
    weights: torch.Tensor  # sum of weights; the number of trained tokens where each weighs 1

    @property
    def means(self) -> torch.Tensor:
        """Log-probability per unit of weight, (rows,)."""
        return self.sums / self.weights.clamp(min=torch.finfo(torch.float32).tiny)


def log_probs_on(model: Any, batch: Batch) -> torch.Tensor:
    """Return the log-probability of each prediction of a batch, in float32: (predictions,)."""
    head = model.get_output_embeddings()
    if model.has_plain_head and type(head) is nn.Linear:
        hidden = hidden_on(model, batch.ids, batch.layout).index_select(0, batch.keep)
        return log_probabilities(hidden, head.weight, batch.targets)
    return -losses_on(model, batch)


def log_probs_and_hidden(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `log_probs_on`, and what the output head is given there: (predictions, size)."""
    hidden = hidden_on(model, batch.ids, batch.layout).index_select(0, batch.keep)
    head = model.get_output_embeddings()
    if model.has_plain_head and type(head) is nn.Linear:
        return log_probabilities(hidden, head.weight, batch.targets), hidden
    return -losses_on(model, batch), hidden


def row_log_probs(model: Any, batch: Batch) -> RowLogProbs:
    """Return the log-probability of each row of a batch, which gradients flow through."""
    weighted = log_probs_on(model, batch) * batch.weights
    zeros = torch.zeros(batch.n_rows, device=weighted.device)
    return RowLogProbs(
        zeros.index_add(0, batch.documents, weighted),
        zeros.index_add(0, batch.documents, batch.weights),
    )
