"""What a model thinks may come next at given places, and how far two models differ there."""

from __future__ import annotations

from typing import Any

import torch

from tunefork.data.tokens import TokenRows
from tunefork.models import collate, run_on


@torch.no_grad()
def next_token_log_probs(model: Any, rows: TokenRows, most: int = 512) -> torch.Tensor:
    """Return log-probabilities of all tokens at the places that carry weight.

    Args:
        model: What `load_model` returned, adapter attached or not.
        rows: Rows whose weights mark the places.
        most: How many places to look at; those of the first rows. It bounds the memory.

    Returns:
        (places, vocabulary) float32, on the processor.
    """
    found: list[torch.Tensor] = []
    n_places = 0
    for row in range(len(rows)):
        if n_places >= most:
            break
        batch = collate(rows, [row], model.device)
        keep = batch.keep[: most - n_places]
        logits = run_on(model, batch.ids, batch.layout, keep)
        found.append(logits.float().log_softmax(dim=-1).cpu())
        n_places += len(keep)
    return torch.cat(found)


def mean_divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the mean of KL(one || other) over places, in nats per token.

    Args:
        one: What `next_token_log_probs` returned for one model, (places, vocabulary).
        other: The same of another model at the same places.
    """
    return float((one.exp() * (one - other)).sum(dim=-1).mean())
