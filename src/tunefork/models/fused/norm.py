"""Root-mean-square norm (Zhang & Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tunefork.models.fused.kernels import Kernel


def rms_norm(x: torch.Tensor, gain: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return gain * x / sqrt(mean(x^2) + epsilon) over the last axis, with float32 in between.

    Args:
        x: (..., size).
        gain: (size,).
        epsilon: Added under the root.

    Returns:
        (..., size), in x's number format.
    """
    if not torch.is_grad_enabled():
        return _normed(x, gain, epsilon)[0]
    return _RmsNorm.apply(x, gain, epsilon)  # type: ignore[no-untyped-call, no-any-return]


class RmsNorm(nn.Module):
    """In place of a model's own norm."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.weight = original.weight
        self.epsilon = float(original.variance_epsilon)

    @staticmethod
    def replaces(original: Any) -> bool:
        """Say whether this computes the same."""
        return hasattr(original, "variance_epsilon")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., size) to (..., size)."""
        return rms_norm(x, self.weight, self.epsilon)


class _RmsNorm(torch.autograd.Function):
    """Keeps x and one number per token."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gain: torch.Tensor, epsilon: float) -> torch.Tensor:
        y, scale = _normed(x, gain, epsilon)
        ctx.save_for_backward(x, gain, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gain, scale = ctx.saved_tensors
        d_gain = None
        if ctx.needs_input_grad[1]:
            d_gain = (x * scale * gradient).flatten(0, -2).sum(0).to(gain.dtype)
        return _normed_back(gradient, x, gain, scale), d_gain, None


@Kernel
def _normed(
    x: torch.Tensor, gain: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    wide = x.to(torch.float32, copy=True)  # once: sums and products of two formats are slow
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.rsqrt(length.square_().div_(x.shape[-1]).add_(epsilon))  # (..., 1)
    return wide.mul_(scale).to(x.dtype).mul_(gain), scale


@Kernel
def _normed_back(
    gradient: torch.Tensor, x: torch.Tensor, gain: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    # dx = scale * (inner - normal * mean(inner * normal)), with inner = gradient * gain
    normal = x.to(torch.float32, copy=True).mul_(scale)
    inner = (gradient * gain).float()
    mean = (normal * inner).sum(dim=-1, keepdim=True).div(x.shape[-1])
    return normal.mul_(mean).sub_(inner).mul_(scale.neg()).to(x.dtype)
