"""The attention function that tunefork registers with transformers, and its slow reference.

transformers hands every keyword argument of a model's forward to its attention function, so a
call `model(ids, position_ids=..., layout=layout)` reaches `_attention` below in each layer, and
the layout says which tokens may look at which. No foreign code is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

if TYPE_CHECKING:
    from tunefork.models.layout import Layout

ATTENTION_NAME = "tunefork"


@dataclass(frozen=True)
class AttentionSettings:
    """What a layer asks of its attention besides query, key and value."""

    layer: int
    scaling: float
    window: int | None = None  # a token sees itself and the `window - 1` tokens before it
    softcap: float | None = None
    dropout: float = 0.0


def masked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    allowed: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Attend by two batched products where `allowed` is true.

    Softmax(softcap(Q K^T * scaling) + mask) V (Vaswani et al. 2017; the cap as in Gemma 2).
    Query heads that share a key head are folded into the time axis, so keys are not copied.

    Args:
        query: (rows, heads, time, head size).
        key: (rows, key heads, keys, head size), where heads is a multiple of key heads.
        value: As key; its head size may differ.
        allowed: (time, keys) or (rows, time, keys).
        settings: What the layer asks for.

    Returns:
        (rows, heads, time, value head size).
    """
    rows, heads, time, size = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    share = heads // key_heads
    folded = query.reshape(rows * key_heads, share * time, size)
    scores = torch.bmm(folded * settings.scaling, key.reshape(rows * key_heads, keys, -1).mT)
    scores = scores.view(rows, key_heads, share, time, keys)
    if settings.softcap is not None:
        scores = torch.tanh(scores / settings.softcap) * settings.softcap
    mask = allowed.reshape(-1, 1, 1, time, keys)
    # One addition is cheaper than a masked fill, forward and backward.
    bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
    scores = scores + bias.masked_fill(~mask, float("-inf"))
    weights = functional.dropout(torch.softmax(scores, dim=-1), settings.dropout)
    mixed = torch.bmm(
        weights.view(rows * key_heads, share * time, keys),
        value.reshape(rows * key_heads, keys, -1),
    )
    return mixed.view(rows, heads, time, -1)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,  # what a model passes to every attention function; the layout replaces it
) -> tuple[torch.Tensor, None]:
    if kwargs.get("s_aux") is not None:  # attention sinks take part in the softmax
        raise ValueError("attention sinks are not supported")
    settings = AttentionSettings(
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
        dropout=dropout,
    )
    mixed = layout.attend(query[0], key[0], value[0], settings)
    return mixed.unsqueeze(0), None


AttentionInterface.register(ATTENTION_NAME, _attention)
