"""Attention with rotary positions (Su et al. 2021, arXiv 2104.09864), over a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tunefork.models.attention import AttentionSettings
from tunefork.models.fused.kernels import Kernel
from tunefork.models.fused.together import apply_together

if TYPE_CHECKING:
    from tunefork.models.layout import Layout


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (x[i], x[i + size / 2]) by its token's angle.

    Args:
        x: (tokens, heads, size).
        cos: (tokens, size), the second half equal to the first.
        sin: As cos.

    Returns:
        (tokens, heads, size).
    """
    if not torch.is_grad_enabled():
        return _rotated(x, cos, sin, 1.0)
    return _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call, no-any-return]


class RotaryAttention(nn.Module):
    """In place of a model's own attention; its projections stay."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.q_proj = original.q_proj
        self.k_proj = original.k_proj
        self.v_proj = original.v_proj
        self.o_proj = original.o_proj
        self.q_norm = getattr(original, "q_norm", nn.Identity())
        self.k_norm = getattr(original, "k_norm", nn.Identity())
        self.head_dim = int(original.head_dim)
        self.settings = AttentionSettings(
            layer=int(original.layer_idx),
            scaling=float(original.scaling),
            window=getattr(
                original, "sliding_window", getattr(original.config, "sliding_window", None)
            ),
        )

    @staticmethod
    def replaces(original: Any) -> bool:
        """Say whether this computes the same."""
        return not original.attention_dropout

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        *,
        layout: Layout,
        **kwargs: Any,  # masks and caches, which the layout replaces
    ) -> tuple[torch.Tensor, None]:
        """Map (1, tokens, size) to the same shape, and no attention weights."""
        cos, sin = (part[0] for part in position_embeddings)
        by_head = (hidden_states.shape[1], -1, self.head_dim)
        query, key, value = (
            states.view(by_head)
            for states in apply_together((self.q_proj, self.k_proj, self.v_proj), hidden_states)
        )
        query = rotate(self.q_norm(query), cos, sin)
        key = rotate(self.k_norm(key), cos, sin)
        mixed = layout.attend(
            query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), self.settings
        )
        return self.o_proj(mixed.flatten(1).unsqueeze(0)), None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient, cos, sin, -1.0), None, None


@Kernel
def _rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: float
) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    half_sin = sin[:, : first.shape[-1]].unsqueeze(1)
    turned = x * cos.unsqueeze(1)
    into_first, into_second = turned.chunk(2, dim=-1)
    into_first.addcmul_(second, half_sin, value=-direction)
    into_second.addcmul_(first, half_sin, value=direction)
    return turned
