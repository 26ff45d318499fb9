"""Low-rank changes of several adapters, each at its own tokens of one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class ChangeAt:
    """One adapter's change of a layer, and whose tokens it is for."""

    places: torch.Tensor  # (its tokens,): where they stand in the row
    down: torch.Tensor  # A, (rank, in), in any number format; computed in x's
    up: torch.Tensor  # B, (out, rank), likewise
    scale: float


def low_rank_at(x: torch.Tensor, changes: Sequence[ChangeAt]) -> torch.Tensor:
    """Return scale * (x A^T) B^T of each token's own adapter, and zero at all other tokens.

    Kept for the backward pass are x, which others keep too, and the narrow x A^T.

    Args:
        x: (tokens, in).
        changes: One at least, no two at the same place; all with the same `in` and `out`.

    Returns:
        (tokens, out), in x's number format.
    """
    return _LowRankAt.apply(  # type: ignore[no-untyped-call, no-any-return]
        x,
        [change.scale for change in changes],
        *(change.places for change in changes),
        *(change.down for change in changes),
        *(change.up for change in changes),
    )


class _LowRankAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scales: list[float], *parts: torch.Tensor
    ) -> torch.Tensor:
        count = len(scales)
        places, downs, ups = (parts[i * count : (i + 1) * count] for i in range(3))
        lows = []
        y = x.new_zeros(len(x), len(ups[0]))
        for at, down, up, scale in zip(places, downs, ups, scales, strict=True):
            low = x.index_select(0, at) @ down.to(x.dtype).T
            y.index_copy_(0, at, (low @ up.to(x.dtype).T).mul_(scale))
            lows.append(low)
        ctx.scales = scales
        ctx.save_for_backward(x, *lows, *parts)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        count = len(ctx.scales)
        x, *others = ctx.saved_tensors
        lows, places, downs, ups = (others[i * count : (i + 1) * count] for i in range(4))
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        d_downs: list[torch.Tensor | None] = []
        d_ups: list[torch.Tensor | None] = []
        needs = ctx.needs_input_grad[2 + count :]
        for number, (low, at, down, up, scale) in enumerate(
            zip(lows, places, downs, ups, ctx.scales, strict=True)
        ):
            own = gradient.index_select(0, at)
            d_low = (own @ up.to(x.dtype)).mul_(scale)
            d_ups.append((own.T @ low).to(up.dtype).mul_(scale) if needs[count + number] else None)
            seen = x.index_select(0, at) if needs[number] else None
            d_downs.append(None if seen is None else (d_low.T @ seen).to(down.dtype))
            if d_x is not None:
                d_x.index_copy_(0, at, d_low @ down.to(x.dtype))
        return d_x, None, *([None] * count), *d_downs, *d_ups
