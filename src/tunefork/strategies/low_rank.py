"""Frozen linear layers over one input, and a low-rank change beside each, as one autograd step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tunefork.models.quantized import FrozenWeight, dense, joined, parts_of


@dataclass(frozen=True)
class LowRank:
    """One layer: W and its bias, both frozen and in x's number format; A, B and their factor.

    W may be kept in four bits. It is then made dense for each product, forward and backward, and
    never kept so.
    """

    weight: FrozenWeight  # W, (out, in)
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
    downs, ups = [layer.down for layer in layers], [layer.up for layer in layers]
    found: tuple[torch.Tensor, ...]
    if torch.is_grad_enabled():
        found = _LowRankLinear.apply(rows, seen, layers, *downs, *ups)  # type: ignore[no-untyped-call]
    else:
        found = _computed(rows, seen, layers, downs, ups).found
    return tuple(y.view(*x.shape[:-1], -1) for y in found)


class _Computed(NamedTuple):
    found: tuple[torch.Tensor, ...]
    low: torch.Tensor  # (tokens, all ranks)
    down: torch.Tensor  # (all ranks, in)
    ups: tuple[torch.Tensor, ...]


def _computed(
    x: torch.Tensor,
    dropped: torch.Tensor,
    layers: Sequence[LowRank],
    downs: Sequence[torch.Tensor],
    ups: Sequence[torch.Tensor],
) -> _Computed:
    down = torch.cat(list(downs)).to(x.dtype)
    ups = tuple(up.to(x.dtype) for up in ups)
    low = dropped @ down.T
    found = []
    lows = torch.split(low, [len(a) for a in downs], dim=1)
    for layer, own, up in zip(layers, lows, ups, strict=True):
        y = functional.linear(x, dense(layer.weight, x.dtype), layer.bias)
        found.append(y.addmm_(own, up.T, alpha=layer.scale))
    return _Computed(tuple(found), low, down, ups)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor,
        layers: Sequence[LowRank],
        *parts: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        count = len(layers)
        downs, ups = parts[:count], parts[count:]
        ctx.formats = [(a.dtype, b.dtype) for a, b in zip(downs, ups, strict=True)]
        ctx.ranks, ctx.is_same = [len(a) for a in downs], dropped is x
        ctx.scales = [layer.scale for layer in layers]
        found, low, down, ups = _computed(x, dropped, layers, downs, ups)
        kept = [parts_of(layer.weight) for layer in layers]
        ctx.n_parts = [len(weight) for weight in kept]
        ctx.save_for_backward(dropped, low, down, *ups, *(part for w in kept for part in w))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        count = len(gradients)
        dropped, low, down, *others = ctx.saved_tensors
        ups, parts = others[:count], iter(others[count:])
        needs_x, needs_dropped = ctx.needs_input_grad[:2]
        needs_down, needs_up = ctx.needs_input_grad[3], ctx.needs_input_grad[-1]
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
            together = torch.split(d_low.T @ dropped, ctx.ranks)
            d_downs = [part.to(ctx.formats[at][0]) for at, part in enumerate(together)]
        if needs_x:
            weights = (
                dense(joined([next(parts) for _ in range(n_parts)]), gradients[0].dtype)
                for n_parts in ctx.n_parts
            )
            d_x = gradients[0] @ next(weights)
            for gradient, weight in zip(gradients[1:], weights, strict=True):
                d_x.addmm_(gradient, weight)
            if ctx.is_same:
                d_x.addmm_(d_low, down)
        if needs_dropped and not ctx.is_same:
            d_dropped = d_low @ down
        return d_x, d_dropped, None, *d_downs, *d_ups
