"""A frozen linear layer and a low-rank change beside it, as one autograd step."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional


def low_rank_linear(
    x: torch.Tensor,
    dropped: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Return x W^T + bias + scale * (dropped A^T) B^T (Hu et al. 2021, arXiv 2106.09685).

    W and bias are frozen. Kept for the backward pass are the inputs and `dropped A^T`; the sum is
    made inside the second product, forward and backward.

    Args:
        x: (..., in).
        dropped: What the change sees of x: x itself, or x after dropout.
        weight: W, (out, in), in x's number format.
        bias: (out,).
        down: A, (rank, in), in any number format; computed in x's.
        up: B, (out, rank), likewise.
        scale: Factor of the change.

    Returns:
        (..., out), in x's number format.
    """
    rows, out_shape = x.flatten(0, -2), (*x.shape[:-1], weight.shape[0])
    seen = rows if dropped is x else dropped.flatten(0, -2)
    y: torch.Tensor = _LowRankLinear.apply(  # type: ignore[no-untyped-call]
        rows, seen, weight, bias, down, up, scale
    )
    return y.view(out_shape)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        ctx.formats, ctx.scale = (down.dtype, up.dtype), scale
        down, up = down.to(x.dtype), up.to(x.dtype)
        low = dropped @ down.T
        y = functional.linear(x, weight, bias)
        y.addmm_(low, up.T, alpha=scale)
        ctx.is_same = dropped is x
        ctx.save_for_backward(dropped, weight, down, up, low)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, weight, down, up, low = ctx.saved_tensors
        needs_x, needs_dropped, _, _, needs_down, needs_up, _ = ctx.needs_input_grad
        d_x = d_dropped = d_down = d_up = None
        d_low = gradient @ up
        if needs_up:
            d_up = torch.mm(gradient.T, low).to(ctx.formats[1]).mul_(ctx.scale)
        if needs_down:
            d_down = torch.mm(d_low.T, dropped).to(ctx.formats[0]).mul_(ctx.scale)
        if needs_x:
            d_x = gradient @ weight
            if ctx.is_same:
                d_x.addmm_(d_low, down, alpha=ctx.scale)
        if needs_dropped and not ctx.is_same:
            d_dropped = torch.mm(d_low, down).mul_(ctx.scale)
        return d_x, d_dropped, None, None, d_down, d_up, None
