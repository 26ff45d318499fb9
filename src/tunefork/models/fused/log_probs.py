"""Output head and log-probabilities in one, by chunks: logits of all places never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

_CHUNK_BYTES = 32 << 20  # float32 logits held at once


def log_probabilities(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return log softmax(hidden @ head.T)[targets] for each place, in float32: (places,).

    What a place's log-probability weighs in the loss is not known before the whole row is. Where
    the head is frozen that takes no second look at the logits: the gradient with respect to
    `hidden` is linear in that weight, so it is computed with the value and scaled in the backward
    pass. Where the head is trained, logits are computed again.

    Args:
        hidden: (places, size).
        head: (vocabulary, size).
        targets: (places,).
    """
    return _LogProbabilities.apply(hidden, head, targets)  # type: ignore[no-untyped-call, no-any-return]


class _LogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        trains_hidden, trains_head = ctx.needs_input_grad[:2]
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if trains_hidden and not trains_head else None
        for part in _parts(hidden, head):
            logits, target = (hidden[part] @ head.T).float(), targets[part].unsqueeze(1)
            total = logits.logsumexp(dim=1, keepdim=True)
            found[part] = (logits.gather(1, target) - total).squeeze(1)
            if d_hidden is not None:
                torch.mm(_slope(logits, total, target, head.dtype), head, out=d_hidden[part])
        ctx.scales = not trains_head
        ctx.save_for_backward(*((d_hidden,) if not trains_head else (hidden, head, targets)))
        return found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        if ctx.scales:
            (d_hidden,) = ctx.saved_tensors
            return d_hidden * gradient.unsqueeze(1).to(d_hidden.dtype), None, None
        hidden, head, targets = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_head = torch.zeros_like(head, dtype=torch.float32)
        for part in _parts(hidden, head):
            logits, target = (hidden[part] @ head.T).float(), targets[part].unsqueeze(1)
            total = logits.logsumexp(dim=1, keepdim=True)
            slope = _slope(logits, total, target, torch.float32)
            slope = slope.mul_(gradient[part].unsqueeze(1)).to(head.dtype)
            if d_hidden is not None:
                torch.mm(slope, head, out=d_hidden[part])
            d_head += slope.T @ hidden[part]
        return d_hidden, d_head.to(head.dtype), None


def _slope(
    logits: torch.Tensor, total: torch.Tensor, target: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Return d log-probability / d logits = one hot - softmax, in the room of the logits."""
    slope = logits.sub_(total).exp_().neg_()
    ones = torch.ones(target.shape, dtype=slope.dtype, device=slope.device)
    return slope.scatter_add_(1, target, ones).to(dtype)


def _parts(hidden: torch.Tensor, head: torch.Tensor) -> Iterator[slice]:
    n_rows = max(1, _CHUNK_BYTES // (4 * head.shape[0]))
    return (slice(begin, begin + n_rows) for begin in range(0, len(hidden), n_rows))
