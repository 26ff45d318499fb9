"""Output head and log-probabilities in one, by chunks: logits of all places never exist at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from tunefork.models.fused.softmax import Chosen, choose, room_for_logits

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
        room = room_for_logits(len(hidden), _CHUNK_BYTES, head)
        for part in _parts(hidden, room):
            logits, target = hidden[part] @ head.T, targets[part].unsqueeze(1)
            chosen = choose(logits, target, room)
            found[part] = chosen.log_probs.squeeze(1)
            if d_hidden is not None:
                torch.mm(logits.copy_(_slope(chosen, target)), head, out=d_hidden[part])
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
        room = room_for_logits(len(hidden), _CHUNK_BYTES, head)
        for part in _parts(hidden, room):
            logits, target = hidden[part] @ head.T, targets[part].unsqueeze(1)
            slope = _slope(choose(logits, target, room), target)
            slope = logits.copy_(slope.mul_(gradient[part].unsqueeze(1)))
            if d_hidden is not None:
                torch.mm(slope, head, out=d_hidden[part])
            d_head += slope.T @ hidden[part]
        return d_hidden, d_head.to(head.dtype), None


def _slope(chosen: Chosen, target: torch.Tensor) -> torch.Tensor:
    """Return d log-probability / d logits = one hot - softmax, in the room of the exponentials."""
    slope = chosen.exponentials.mul_(-1 / chosen.total)
    ones = torch.ones(target.shape, dtype=slope.dtype, device=slope.device)
    return slope.scatter_add_(1, target, ones)


def _parts(hidden: torch.Tensor, room: torch.Tensor) -> Iterator[slice]:
    return (slice(begin, begin + len(room)) for begin in range(0, len(hidden), len(room)))
