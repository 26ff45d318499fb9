"""Frozen linear layers over one input, and a low-rank change beside each, as one autograd step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional


@dataclass(frozen=True)
class LowRank:
    """One layer: W and its bias, both frozen and in x's number format; A, B and their factor."""

    weight: torch.Tensor  # W, (out, in)
    bias: torch.Tensor | None  # (out,)
    down: torch.Tensor  # A, (rank, in), in any number format; computed in x's
    up: torch.Tensor  # B, (out, rank), likewise
    scale: float


def low_rank_linear(
    x: torch.Tensor, dropped: torch.Tensor, layers: Sequence[LowRank]
) -> tuple[torch.Tensor, ...]:
    """Return x W^T + bias + scale * (dropped A^T) B^T of each layer.

    Hu et al. 2021 (arXiv 2106.09685). Kept for the backward pass are the input and the narrow
    `dropped A^T`; sums are made inside the products, forward and backward, and the layers' narrow
    products are one.

    Args:
        x: (..., in).
        dropped: What the changes see of x: x itself, or x after dropout.
        layers: One at least; all with the same `in`.

    Returns:
        For each layer (..., out), in x's number format.
    """
    rows = x.flatten(0, -2)
    seen = rows if dropped is x else dropped.flatten(0, -2)
    found: tuple[torch.Tensor, ...] = _LowRankLinear.apply(  # type: ignore[no-untyped-call]
        rows,
        seen,
        [layer.scale for layer in layers],
        *(layer.weight for layer in layers),
        *(layer.bias for layer in layers),
        *(layer.down for layer in layers),
        *(layer.up for layer in layers),
    )
    return tuple(y.view(*x.shape[:-1], -1) for y in found)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor,
        scales: list[float],
        *parts: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = len(scales)
        weights, biases, downs, ups = (parts[i * count : (i + 1) * count] for i in range(4))
        ctx.formats = [(a.dtype, b.dtype) for a, b in zip(downs, ups, strict=True)]
        ctx.ranks, ctx.scales, ctx.is_same = [len(a) for a in downs], scales, dropped is x
        down = torch.cat(downs).to(x.dtype)  # (all ranks, in)
        ups = tuple(up.to(x.dtype) for up in ups)
        low = dropped @ down.T  # (tokens, all ranks)
        found = []
        lows = torch.split(low, ctx.ranks, dim=1)
        layers = zip(weights, biases, lows, ups, scales, strict=True)
        for weight, bias, own, up, scale in layers:
            found.append(functional.linear(x, weight, bias).addmm_(own, up.T, alpha=scale))
        ctx.save_for_backward(dropped, low, down, *weights, *ups)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        count = len(gradients)
        dropped, low, down, *others = ctx.saved_tensors
        weights, ups = others[:count], others[count:]
        needs_x, needs_dropped = ctx.needs_input_grad[:2]
        needs_down, needs_up = ctx.needs_input_grad[3 + 2 * count], ctx.needs_input_grad[-1]
        d_x = d_dropped = None
        d_downs: list[torch.Tensor | None] = [None] * count
        d_ups: list[torch.Tensor | None] = [None] * count
        d_low = torch.cat(
            [
                torch.mm(gradient, up).mul_(scale)
                for gradient, up, scale in zip(gradients, ups, ctx.scales, strict=True)
            ],
            dim=1,
        )
        if needs_up:
            lows = torch.split(low, ctx.ranks, dim=1)
            for at, (gradient, own) in enumerate(zip(gradients, lows, strict=True)):
                d_ups[at] = (gradient.T @ own).to(ctx.formats[at][1]).mul_(ctx.scales[at])
        if needs_down:
            joined = torch.split(d_low.T @ dropped, ctx.ranks)
            d_downs = [part.to(ctx.formats[at][0]) for at, part in enumerate(joined)]
        if needs_x:
            d_x = gradients[0] @ weights[0]
            for gradient, weight in zip(gradients[1:], weights[1:], strict=True):
                d_x.addmm_(gradient, weight)
            if ctx.is_same:
                d_x.addmm_(d_low, down)
        if needs_dropped and not ctx.is_same:
            d_dropped = d_low @ down
        frozen = [None] * (2 * count)
        return d_x, d_dropped, None, *frozen, *d_downs, *d_ups
