"""The gated feed-forward part: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tunefork.models.fused.kernels import Kernel
from tunefork.models.fused.recompute import computed_again
from tunefork.models.fused.together import apply_together


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up; all three of one shape."""
    if not torch.is_grad_enabled():
        return _gated(gate, up)
    return _Swiglu.apply(gate, up)  # type: ignore[no-untyped-call, no-any-return]


class SwigluMlp(nn.Module):
    """In place of a model's own feed-forward part."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.gate_proj = original.gate_proj
        self.up_proj = original.up_proj
        self.down_proj = original.down_proj

    @staticmethod
    def replaces(original: Any) -> bool:
        """Say whether this computes the same."""
        return original.config.hidden_act in ("silu", "swish")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., size) to (..., size)."""
        gate, up = apply_together((self.gate_proj, self.up_proj), x)
        mixed = swiglu(gate, up)
        with computed_again(mixed, lambda: swiglu(gate, up)):
            y: torch.Tensor = self.down_proj(mixed)
        return y


class _Swiglu(torch.autograd.Function):
    """Keeps its two inputs, not silu(gate)."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _gated_back(gradient, *ctx.saved_tensors)


@Kernel
def _gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.silu(gate).mul_(up)


@Kernel
def _gated_back(
    gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    d_gate = torch.ops.aten.silu_backward(gradient * up, gate)
    return d_gate, functional.silu(gate).mul_(gradient)
