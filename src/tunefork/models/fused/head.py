"""Output head and cross-entropy in one, by chunks: logits of all places never exist at once."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from tunefork.models.fused.softmax import choose, room_for_logits

_CHUNK_BYTES = 32 << 20  # float32 logits held at once
_CHUNK_BYTES_TRAINED = 128 << 20  # likewise, where each chunk adds to the whole head's gradient


def weighted_cross_entropy(
    hidden: torch.Tensor,
    head: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Return sum(weights * -log softmax(hidden @ head.T)[targets]), in float32.

    The gradients are computed with the loss, while a chunk's logits are at hand (as Liger Kernel
    does, Hsu et al. 2024, arXiv 2410.10989).

    Args:
        hidden: (places, size).
        head: (vocabulary, size).
        targets: (places,).
        weights: (places,) float32.

    Returns:
        Scalar.
    """
    return _WeightedCrossEntropy.apply(hidden, head, targets, weights)  # type: ignore[no-untyped-call, no-any-return]


class _WeightedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        trains_hidden, trains_head = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if trains_hidden else None
        d_head = torch.zeros_like(head) if trains_head else None
        chunk_bytes = _CHUNK_BYTES_TRAINED if trains_head else _CHUNK_BYTES
        room = room_for_logits(len(hidden), chunk_bytes, head)
        for begin in range(0, len(hidden), len(room)):
            part = slice(begin, begin + len(room))
            target, weight = targets[part].unsqueeze(1), weights[part].unsqueeze(1)
            logits = hidden[part] @ head.T
            found = choose(logits, target, room)
            total -= (found.log_probs * weight).sum()
            if d_hidden is None and d_head is None:
                continue
            # d loss / d logits = weight * (softmax - one_hot)
            d_logits = found.exponentials.mul_(weight / found.total)
            d_short = logits.copy_(d_logits.scatter_add_(1, target, -weight))
            if d_hidden is not None:
                torch.mm(d_short, head, out=d_hidden[part])
            if d_head is not None:
                d_head.addmm_(d_short.T, hidden[part])
        ctx.save_for_backward(d_hidden, d_head)
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        d_hidden, d_head = ctx.saved_tensors
        if d_hidden is not None:
            d_hidden = d_hidden * gradient  # a scalar does not widen the number format
        if d_head is not None:
            d_head = d_head * gradient
        return d_hidden, d_head, None, None
