"""Attention inside the segments of a packed row, by groups of segments of similar length.

Each group is one padded batch. `attend_slowly` is the reference that everything here must agree
with; `attend` chooses what is fastest on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tunefork.models.attention import AttentionSettings, masked_attention

# Pairs of a query and a key, of one head, that take as long as the calls of one more group.
_WORTH_A_GROUP = 1 << 15
# Softmax over bf16 runs 2 to 4 times faster on a CPU where rows are whole vectors.
_ROUND_KEYS = 32
_BLOCK = 256  # queries of a segment whose scores exist at once
_KEPT_KEYS = 512  # keys up to which weights are kept for the backward pass, not computed again


@dataclass(frozen=True)
class Group:
    """Segments of similar length as one padded batch.

    Queries are a segment's own tokens; keys are all that it continues, then itself. Query i of a
    segment with p keys before it sees the keys 0 to p + i, so padding, which stands behind, is
    never seen. All tensors are on the row's device.
    """

    queries: torch.Tensor  # (segments, longest): places in the row, padded with a real one
    keys: torch.Tensor  # (segments, most keys): likewise
    is_real: torch.Tensor  # (segments, longest): no padding
    before: torch.Tensor  # (segments,): p
    most_before: int
    has_one_before: bool  # all segments have the same p
    is_padded: bool  # some query is padding

    def allowed(self, window: int | None) -> torch.Tensor:
        """Return which query sees which key: (segments or 1, longest, most keys) bool."""
        before = self.before[:1] if self.has_one_before else self.before
        device = self.queries.device
        last = before.view(-1, 1, 1) + torch.arange(self.queries.shape[1], device=device).view(
            1, -1, 1
        )
        key = torch.arange(self.keys.shape[1], device=device)
        seen = key <= last
        return seen if window is None else seen & (key > last - window)


class Groups:
    """All segments of a row, and where each token's results stand among the padded batches."""

    def __init__(
        self,
        own: Sequence[torch.Tensor],
        seen: Sequence[torch.Tensor],
        device: torch.device | str,
    ) -> None:
        """Group segments.

        Args:
            own: For each segment the places of its tokens in the row.
            seen: For each segment the places of all it continues, then its own.
            device: Where the row will be.
        """
        members = _similar([len(part) for part in own], [len(part) for part in seen])
        self.n_tokens = sum(len(part) for part in own)
        self.groups = [
            _group([own[n] for n in group], [seen[n] for n in group], device) for group in members
        ]
        self._tables: dict[tuple[int, int], _Tables] = {}
        self._biases: dict[tuple[int, int | None, torch.dtype], torch.Tensor] = {}

    def tables(self, heads: int, key_heads: int) -> _Tables:
        """Return the places of every head's vectors; made once for all layers alike."""
        shape = (heads, key_heads)
        if shape not in self._tables:
            self._tables[shape] = _tables(self, heads, key_heads)
        return self._tables[shape]

    def bias(self, number: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return a group's mask as an addend: (segments or 1, 1, 1, longest, most keys)."""
        what = (number, window, dtype)
        if what not in self._biases:
            allowed = self.groups[number].allowed(window)[:, None, None]
            zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self._biases[what] = zeros.masked_fill_(~allowed, float("-inf"))
        return self._biases[what]


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
        key: (tokens, key heads, head size), where heads is a multiple of key heads.
        value: As key; its head size may differ.
        groups: Which token sees which.
        settings: What the layer asks for.

    Returns:
        (tokens, heads, value head size).
    """
    if settings.softcap is not None or settings.dropout:
        return attend_slowly(query, key, value, groups=groups, settings=settings)
    if query.device.type == "cuda":
        return _attend_fused(query, key, value, groups=groups, settings=settings)
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

    def one(group: Group) -> torch.Tensor:
        padded = _padded(query, key, value, group)
        allowed = group.allowed(settings.window)[..., : padded[1].shape[2]]
        return masked_attention(*padded, allowed, settings)

    return _unpadded([one(group) for group in groups.groups], groups)


def _attend_fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    groups: Groups,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Compute by PyTorch's fused kernel, which is a GPU's fastest."""

    def one(group: Group) -> torch.Tensor:
        padded = _padded(query, key, value, group)
        allowed = group.allowed(settings.window)[..., : padded[1].shape[2]]
        is_causal = group.most_before == 0 and settings.window is None
        return functional.scaled_dot_product_attention(
            *padded,
            attn_mask=None if is_causal else allowed.unsqueeze(1),
            is_causal=is_causal,
            scale=settings.scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )

    return _unpadded([one(group) for group in groups.groups], groups)


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


def _unpadded(mixed: Sequence[torch.Tensor], groups: Groups) -> torch.Tensor:
    """Bring (segments, heads, longest, size) of each group back to (tokens, heads, size)."""
    by_token = torch.cat([part.transpose(1, 2).flatten(0, 1) for part in mixed])
    return by_token.index_select(0, groups.tables(1, 1).query_back)


@dataclass(frozen=True)
class _Tables:
    """Places of vectors of one head, among (tokens * heads) and among the padded batches."""

    queries: tuple[torch.Tensor, ...]  # per group: (segments * heads * longest,)
    keys: tuple[torch.Tensor, ...]  # per group: (segments * key heads * most keys,)
    padding: tuple[torch.Tensor, ...]  # per group: which of its queries are padding
    query_back: torch.Tensor  # (tokens * heads,): where each stands among all padded queries
    key_back: torch.Tensor  # (tokens * key heads,): likewise, as the key of its own segment
    shared_from: torch.Tensor  # among all padded keys, those of another segment than their own …
    shared_to: torch.Tensor  # … and where these belong among (tokens * key heads)


class _Products(torch.autograd.Function):
    """Two batched products per group, forward; four backward. Weights are kept where short."""

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
    if _keeps_weights(group):
        return [(slice(0, longest), slice(0, n_keys))]
    found = []
    for begin in range(0, longest, _BLOCK):
        end = min(begin + _BLOCK, longest)
        last = -(-(group.most_before + end) // _ROUND_KEYS) * _ROUND_KEYS
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


def _key_gradient(padded: torch.Tensor, tables: _Tables) -> torch.Tensor:
    """Sum what every segment that sees a key sends back to it: (tokens * key heads, size)."""
    own = padded.index_select(0, tables.key_back)
    if not len(tables.shared_from):
        return own
    shared = padded.index_select(0, tables.shared_from).float()
    return own.float().index_add_(0, tables.shared_to, shared).to(own.dtype)


def _similar(queries: Sequence[int], keys: Sequence[int]) -> list[list[int]]:
    """Split segment numbers into groups: padding costs products, and each group costs calls.

    From the longest on, a segment opens a group where that saves it, and the shorter ones after
    it, more padding than a group costs.
    """
    groups: list[list[int]] = []
    longest = most_keys = 0
    order = sorted(range(len(queries)), key=lambda number: (-queries[number], -keys[number]))
    for at, number in enumerate(order):
        most_keys = max(most_keys, keys[number])
        saved = longest * most_keys - queries[number] * keys[number]
        if not groups or saved * (len(order) - at) > _WORTH_A_GROUP:
            groups.append([])
            longest, most_keys = queries[number], keys[number]
        groups[-1].append(number)
    return [sorted(group) for group in groups]


def _group(
    own: Sequence[torch.Tensor], seen: Sequence[torch.Tensor], device: torch.device | str
) -> Group:
    longest = max(len(part) for part in own)
    most_keys = max(len(part) for part in seen)
    before = [len(s) - len(o) for o, s in zip(own, seen, strict=True)]
    most_keys = -(-max(most_keys, max(before) + longest) // _ROUND_KEYS) * _ROUND_KEYS
    queries, is_real = _table(own, longest)
    return Group(
        queries=queries.to(device),
        keys=_table(seen, most_keys)[0].to(device),
        is_real=is_real.to(device),
        before=torch.tensor(before, device=device),
        most_before=max(before),
        has_one_before=len(set(before)) == 1,
        is_padded=len({len(part) for part in own}) > 1,
    )


def _table(places: Sequence[torch.Tensor], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(part) for part in places])
    is_real = torch.arange(width) < lengths.unsqueeze(1)
    table = torch.stack([part[:1].expand(width) for part in places])
    return table.masked_scatter(is_real, torch.cat(list(places))), is_real


def _tables(groups: Groups, heads: int, key_heads: int) -> _Tables:
    queries, keys, padding, shared_from, shared_to = [], [], [], [], []
    n_queries = n_keys = 0
    device = groups.groups[0].queries.device

    def by_head(places: torch.Tensor, count: int) -> torch.Tensor:
        """(segments, width) → (segments, count, width): the place of each head's vector."""
        head = torch.arange(count, device=device).view(1, -1, 1)
        return places.unsqueeze(1) * count + head

    query_back = torch.empty(groups.n_tokens * heads, dtype=torch.long, device=device)
    key_back = torch.empty(groups.n_tokens * key_heads, dtype=torch.long, device=device)
    for group in groups.groups:
        places = by_head(group.queries, heads)  # heads of one key head stand together
        real = group.is_real.unsqueeze(1).expand_as(places)
        within = torch.arange(places.numel(), device=device).view_as(places)
        query_back[places[real]] = n_queries + within[real]
        queries.append(places.flatten())
        padding.append((~real).flatten().nonzero().flatten())
        seen = by_head(group.keys, key_heads)
        number = torch.arange(seen.shape[2], device=device)
        before = group.before.view(-1, 1)
        lengths = group.is_real.sum(1, keepdim=True)
        is_own = ((number >= before) & (number < before + lengths)).unsqueeze(1).expand_as(seen)
        is_shared = (number < before).unsqueeze(1).expand_as(seen)
        within = n_keys + torch.arange(seen.numel(), device=device).view_as(seen)
        key_back[seen[is_own]] = within[is_own]
        shared_from.append(within[is_shared])
        shared_to.append(seen[is_shared])
        keys.append(seen.flatten())
        n_queries += places.numel()
        n_keys += seen.numel()
    return _Tables(
        queries=tuple(queries),
        keys=tuple(keys),
        padding=tuple(padding),
        query_back=query_back,
        key_back=key_back,
        shared_from=torch.cat(shared_from),
        shared_to=torch.cat(shared_to),
    )
