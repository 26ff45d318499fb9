"""One decoder layer: attention and feed-forward part, each behind a norm and beside a residual."""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from tunefork.models.fused.recompute import computed_again, kept_as_usual


class DecoderLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """In place of a model's own layer; keeps no normed states for the backward pass."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.self_attn = original.self_attn
        self.mlp = original.mlp
        self.input_layernorm = original.input_layernorm
        self.post_attention_layernorm = original.post_attention_layernorm

    @staticmethod
    def replaces(original: Any) -> bool:
        """Say whether this computes the same."""
        return True

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Map (1, tokens, size) to the same shape."""
        if self.gradient_checkpointing and self.training:
            # The whole layer is computed again, by a mechanism that keeps track of what is kept.
            with kept_as_usual():
                return self._forward(hidden_states, **kwargs)
        return self._forward(hidden_states, **kwargs)

    def _forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        normed = self.input_layernorm(x)
        with computed_again(normed, lambda: self.input_layernorm(x)):
            mixed, _ = self.self_attn(normed, **kwargs)
        middle = x + mixed
        normed = self.post_attention_layernorm(middle)
        with computed_again(normed, lambda: self.post_attention_layernorm(middle)):
            return middle + self.mlp(normed)  # type: ignore[no-any-return]
