"""Attention inside the segments of a packed row, by groups of segments of similar length.

Each group is one padded batch. `attend_slowly` is the reference that everything here must agree
with; `attend` chooses what is fastest on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tunefork.models.attention import AttentionSettings, masked_attention
from tunefork.models.groups import ROUND_KEYS, Group, Groups, Tables

_BLOCK = 256  # queries of a segment whose scores exist at once
_KEPT_KEYS = 512  # keys up to which weights are kept for the backward pass, not computed again


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    groups: Groups,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Mix values for each token of a row.

    Args:
        query: (tokens, heads, head size).
        key: (places, key heads, head size), where heads is a multiple of key heads. Places are
            the row's tokens, then learned keys.
        value: As key; its head size may differ.
        groups: Which token sees which.
        settings: What the layer asks for.

    Returns:
        (tokens, heads, value head size).
    """
    if settings.softcap is not None or settings.dropout:
        return attend_slowly(query, key, value, groups=groups, settings=settings)
    if query.device.type == "cuda":  # PyTorch's fused kernel is a GPU's fastest
        return _attend_by(_fused, query, key, value, groups, settings)
    return _Products.apply(query, key, value, groups, settings)  # type: ignore[no-untyped-call, no-any-return]


def attend_slowly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    groups: Groups,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Compute what `attend` does in plain steps that autograd follows: the reference."""
    return _attend_by(_masked, query, key, value, groups, settings)


def _attend_by(
    kernel: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Groups,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Run a kernel over each group's padded batch, and bring the tokens back into their order."""
    mixed = [kernel(*_padded(query, key, value, group), group, settings) for group in groups.groups]
    # (segments, heads, longest, size) of each group → (tokens, heads, size)
    by_token = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in mixed])
    return by_token.index_select(0, groups.tables(1, 1).query_back)


def _masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    group: Group,
    settings: AttentionSettings,
) -> torch.Tensor:
    allowed = group.allowed(settings.window)[..., : key.shape[2]]
    return masked_attention(query, key, value, allowed, settings)


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    group: Group,
    settings: AttentionSettings,
) -> torch.Tensor:
    mask = None
    if group.most_before or settings.window is not None:
        mask = group.allowed(settings.window)[..., : key.shape[2]].unsqueeze(1)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=settings.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _padded(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: Group
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each as (segments, heads, longest or most keys, size)."""

    def gathered(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        rows = states.index_select(0, places.flatten())
        return rows.view(*places.shape, *states.shape[1:]).transpose(1, 2)

    n_keys = group.keys.shape[1] if group.most_before else group.queries.shape[1]
    return (
        gathered(query, group.queries),
        gathered(key, group.keys[:, :n_keys]),
        gathered(value, group.keys[:, :n_keys]),
    )


class _Products(torch.autograd.Function):
    """Two batched products per group, forward; five backward. Weights are kept where short."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        groups: Groups,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        heads, key_heads = query.shape[1], key.shape[1]
        tables = groups.tables(heads, key_heads)
        flat = [states.reshape(-1, states.shape[-1]) for states in (query, key, value)]
        kept: list[torch.Tensor] = []
        mixed = []
        for number, group in enumerate(groups.groups):
            rows = len(group.queries) * key_heads
            q = flat[0].index_select(0, tables.queries[number]).view(rows, -1, query.shape[-1])
            k = flat[1].index_select(0, tables.keys[number]).view(rows, -1, key.shape[-1])
            v = flat[2].index_select(0, tables.keys[number]).view(rows, -1, value.shape[-1])
            bias = groups.bias(number, settings.window, query.dtype)
            weights, out = _mix(q, k, v, bias, settings.scaling, group)
            kept += [q, k, v, *weights]
            mixed.append(out.flatten(0, -2))
        ctx.save_for_backward(*kept)
        ctx.shapes = (query.shape, key.shape, value.shape)
        ctx.groups, ctx.settings = groups, settings
        return torch.cat(mixed).index_select(0, tables.query_back).view(*query.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        groups, settings = ctx.groups, ctx.settings
        q_shape, k_shape, v_shape = ctx.shapes
        tables = groups.tables(q_shape[1], k_shape[1])
        kept = iter(ctx.saved_tensors)
        flat = gradient.reshape(-1, gradient.shape[-1])
        parts: tuple[list[torch.Tensor], ...] = ([], [], [])
        for number, group in enumerate(groups.groups):
            q, k, v = next(kept), next(kept), next(kept)
            weights = [next(kept)] if _keeps_weights(group) else []
            d_out = flat.index_select(0, tables.queries[number])
            if group.is_padded:  # nobody reads what a padded query mixes
                d_out.index_fill_(0, tables.padding[number], 0.0)
            bias = groups.bias(number, settings.window, q.dtype)
            found = _mix_back(
                d_out.view(*q.shape[:2], -1), q, k, v, weights, bias, settings.scaling, group
            )
            for part, d_states in zip(parts, found, strict=True):
                part.append(d_states.flatten(0, -2))
        d_query = torch.cat(parts[0]).index_select(0, tables.query_back).view(q_shape)
        d_key = _key_gradient(torch.cat(parts[1]), tables).view(k_shape)
        d_value = _key_gradient(torch.cat(parts[2]), tables).view(v_shape)
        return d_query, d_key, d_value, None, None


def _keeps_weights(group: Group) -> bool:
    return group.keys.shape[1] <= _KEPT_KEYS and group.queries.shape[1] <= _BLOCK


def _blocks(group: Group) -> list[tuple[slice, slice]]:
    """Cut a segment's queries into blocks, each with the keys that one of them sees."""
    longest, n_keys = group.queries.shape[1], group.keys.shape[1]
    found = []
    for begin in range(0, longest, _BLOCK):
        end = min(begin + _BLOCK, longest)
        last = -(-(group.most_before + end) // ROUND_KEYS) * ROUND_KEYS
        found.append((slice(begin, end), slice(0, min(last, n_keys))))
    return found


def _weights(
    q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, scaling: float, share: int
) -> torch.Tensor:
    """Return softmax(q k^T scaling + bias): (rows, share * queries, keys)."""
    rows, n_queries, n_keys = q.shape[0], q.shape[1] // share, k.shape[1]
    segments = rows if bias.shape[0] == 1 else bias.shape[0]
    scores = q.new_empty(segments, rows // segments, share, n_queries, n_keys).copy_(bias)
    scores = scores.view(rows, -1, n_keys).baddbmm_(q, k.mT, alpha=scaling)
    return torch.softmax(scores, dim=-1)


def _mix(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    scaling: float,
    group: Group,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the weights, where they are to be kept, and (rows, share * longest, size)."""
    share = q.shape[1] // group.queries.shape[1]
    if _keeps_weights(group):
        weights = _weights(q, k, bias, scaling, share)
        return [weights], torch.bmm(weights, v)
    by_head = q.view(q.shape[0], share, -1, q.shape[2])
    out = q.new_empty(*by_head.shape[:3], v.shape[2])
    for own, seen in _blocks(group):
        block = by_head[:, :, own].reshape(q.shape[0], -1, q.shape[2])
        weights = _weights(block, k[:, seen], bias[..., own, seen], scaling, share)
        out[:, :, own] = torch.bmm(weights, v[:, seen]).view(q.shape[0], share, -1, v.shape[2])
    return [], out


def _mix_back(
    d_out: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    weights: list[torch.Tensor],
    bias: torch.Tensor,
    scaling: float,
    group: Group,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of q, k and v."""
    share = q.shape[1] // group.queries.shape[1]
    if weights:
        return _block_back(d_out, q, k, v, weights[0], scaling)
    rows, size = q.shape[0], q.shape[2]
    q_heads, d_heads = q.view(rows, share, -1, size), d_out.view(rows, share, -1, v.shape[2])
    d_q, d_k, d_v = (
        torch.empty_like(q_heads),
        *(torch.zeros_like(t, dtype=torch.float32) for t in (k, v)),
    )
    for own, seen in _blocks(group):
        block = q_heads[:, :, own].reshape(rows, -1, size)
        d_block = d_heads[:, :, own].reshape(rows, -1, v.shape[2])
        again = _weights(block, k[:, seen], bias[..., own, seen], scaling, share)
        found = _block_back(d_block, block, k[:, seen], v[:, seen], again, scaling)
        d_q[:, :, own] = found[0].view(rows, share, -1, size)
        d_k[:, seen] += found[1]
        d_v[:, seen] += found[2]
    return d_q.view_as(q), d_k.to(k.dtype), d_v.to(v.dtype)


def _block_back(
    d_out: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    weights: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    d_v = torch.bmm(weights.mT, d_out)
    d_weights = torch.bmm(d_out, v.mT)
    d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
    d_q = torch.baddbmm(q, d_scores, k, beta=0, alpha=scaling)
    d_k = torch.baddbmm(k, d_scores.mT, q, beta=0, alpha=scaling)
    return d_q, d_k, d_v


def _key_gradient(padded: torch.Tensor, tables: Tables) -> torch.Tensor:
    """Sum what every segment that sees a key sends back to it: (places * key heads, size)."""
    own = padded.index_select(0, tables.key_back)
    if not len(tables.shared_from):
        return own
    total = own.new_zeros(tables.n_keys, own.shape[1], dtype=torch.float32)
    total[: len(own)] = own  # learned keys are no segment's own
    shared = padded.index_select(0, tables.shared_from).float()
    return total.index_add_(0, tables.shared_to, shared).to(own.dtype)
