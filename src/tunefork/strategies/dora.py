"""DoRA: a weight's magnitude and its direction change apart (Liu et al. 2024, arXiv 2402.09353).

W' = m * (W + scale * B A) / n, with n the norm of each row of W + scale * B A, a constant in the
backward pass (section 4.3). m is trained, and begins as the norms of W's rows: W' begins as W.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tunefork.models.quantized import FrozenWeight, dense, joined, parts_of
from tunefork.strategies.beside import Change
from tunefork.strategies.lora_layer import LowRankChange, frozen_weight


class DoraChange(LowRankChange):
    """What one adapter with a magnitude does to one layer. No changed weight is ever made."""

    def __init__(self, base_layer: nn.Module, rank: int, scale: float, dropout: float) -> None:
        super().__init__(base_layer, rank, scale, dropout)
        weight = dense(frozen_weight(base_layer), torch.float32)
        self._squares = weight.detach().float().square().sum(1)  # (out,): of the frozen rows
        self.magnitude = nn.Parameter(self._squares.sqrt())
        self._norms: torch.Tensor | None = None
        self._norms_of = (0, 0)

    @property
    def is_joinable(self) -> bool:
        """Whether layers over the same input may be computed in one step with this one."""
        return False

    def forward(self, base_layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Return the changed layer's result: (..., out) for x (..., in)."""
        rows = x.flatten(0, -2)
        y: torch.Tensor = _Dora.apply(  # type: ignore[no-untyped-call]
            rows,
            self._dropped(rows),
            frozen_weight(base_layer),
            base_layer.bias,
            self.lora_A,
            self.lora_B,
            self.magnitude,
            self._norms_now(base_layer),
            self.scale,
        )
        return y.view(*x.shape[:-1], -1)

    def added(self, base_layer: nn.Module, x: torch.Tensor, base_y: torch.Tensor) -> torch.Tensor:
        """Return what to add to the base's result, in steps: (tokens, out) for x (tokens, in)."""
        bias: torch.Tensor | None = base_layer.bias  # type: ignore[assignment]
        plain = base_y if bias is None else base_y - bias
        factor: torch.Tensor = self.magnitude / self._norms_now(base_layer)
        change = super().added(base_layer, x, base_y)
        return torch.addcmul((factor - 1).to(x.dtype) * plain, factor.to(x.dtype), change)

    def served(self, base_layer: nn.Module) -> Change:
        """Return what is added, as serving takes it."""
        plain = super().served(base_layer)
        factor = self.magnitude.detach() / self.norms(base_layer)
        return Change(plain.down, plain.up * factor, (factor - 1).unsqueeze(0))

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight, in float32, for the base's: both (out, in)."""
        changed = super().merged(weight)
        norms: torch.Tensor = torch.linalg.norm(changed, dim=1)
        return changed * (self.magnitude.detach() / norms)[:, None]

    def train(self, mode: bool = True) -> Self:
        """Forget the norms, as an optimizer may have moved A and B."""
        self._norms = None
        super().train(mode)
        return self

    @torch.no_grad()
    def norms(self, base_layer: nn.Module) -> torch.Tensor:
        """Return the norm of each row of W + scale * B A, without making it: (out,), float32.

        |w + s b A|^2 = |w|^2 + 2 s (w A^T) b + s^2 b (A A^T) b for a row w of W and b of B.
        """
        down, up = self.lora_A, self.lora_B
        weight = dense(frozen_weight(base_layer), torch.float32)
        crossed = (weight @ down.to(weight.dtype).T).float()  # (out, rank)
        squares = self._squares.to(up.device) + 2 * self.scale * (crossed * up).sum(1)
        squares += self.scale**2 * ((up @ (down @ down.T)) * up).sum(1)
        return squares.clamp_min(1e-30).sqrt()

    def _norms_now(self, base_layer: nn.Module) -> torch.Tensor:
        """Return the norms, kept from token to token where nothing is trained."""
        if torch.is_grad_enabled():
            self._norms = None
            return self.norms(base_layer)
        # A fused optimizer's step is not counted as a version, so a version alone does not do.
        state = (self.lora_A._version, self.lora_B._version)
        if self._norms is None or self._norms_of != state:
            self._norms, self._norms_of = self.norms(base_layer), state
        return self._norms


class _Dora(torch.autograd.Function):
    """Keeps its input, the narrow product, and the result before it is scaled."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor,
        weight: FrozenWeight,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        magnitude: torch.Tensor,
        norms: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        low = dropped @ down.to(x.dtype).T
        y = functional.linear(x, dense(weight, x.dtype), bias).addmm_(
            low, up.to(x.dtype).T, alpha=scale
        )
        direction = y if bias is None else y - bias
        ctx.scale, ctx.is_same = scale, dropped is x
        ctx.save_for_backward(
            dropped, low, direction, down, up, magnitude, norms, *parts_of(weight)
        )
        # The factor less 1, so that a change of no effect leaves the very bits of the base.
        return torch.addcmul(y, direction, (magnitude / norms - 1).to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, low, direction, down, up, magnitude, norms, *weight = ctx.saved_tensors
        d_x = d_dropped = None
        d_magnitude = (gradient * direction).sum(0, dtype=torch.float32) / norms
        gradient = gradient * (magnitude / norms).to(gradient.dtype)
        d_low = (gradient @ up.to(gradient.dtype)).mul_(ctx.scale)
        d_up = (gradient.T @ low).to(up.dtype).mul_(ctx.scale)
        d_down = (d_low.T @ dropped).to(down.dtype)
        if ctx.needs_input_grad[0]:
            d_x = gradient @ dense(joined(weight), gradient.dtype)
            if ctx.is_same:
                d_x.addmm_(d_low, down.to(d_low.dtype))
        if ctx.needs_input_grad[1] and not ctx.is_same:
            d_dropped = d_low @ down.to(d_low.dtype)
        return d_x, d_dropped, None, None, d_down, d_up, d_magnitude, None, None
