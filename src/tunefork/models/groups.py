"""Which segments of a packed row share a padded batch, and where each of their tokens stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Pairs of a query and a key, of one head, that take as long as the calls of one more group.
_WORTH_A_GROUP = 1 << 15
# Softmax over bf16 runs 2 to 4 times faster on a CPU where rows are whole vectors.
ROUND_KEYS = 32


@dataclass(frozen=True)
class Tables:
    """Places of vectors of one head, among (tokens * heads) and among the padded batches."""

    queries: tuple[torch.Tensor, ...]  # per group: (segments * heads * longest,)
    keys: tuple[torch.Tensor, ...]  # per group: (segments * key heads * most keys,)
    padding: tuple[torch.Tensor, ...]  # per group: which of its queries are padding
    query_back: torch.Tensor  # (tokens * heads,): where each stands among all padded queries
    key_back: torch.Tensor  # (tokens * key heads,): likewise, as the key of its own segment
    shared_from: torch.Tensor  # among all padded keys, those of another segment than their own …
    shared_to: torch.Tensor  # … and where these belong among (places * key heads)
    n_keys: int  # places * key heads


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
        n_learned: int = 0,
    ) -> None:
        """Group segments.

        Args:
            own: For each segment the places of its tokens in the row.
            seen: For each segment the places of all it continues, then its own.
            device: Where the row will be.
            n_learned: How many places behind the row hold learned keys, which have no query.
        """
        members = _similar([len(part) for part in own], [len(part) for part in seen])
        self.n_tokens = sum(len(part) for part in own)
        self.n_places = self.n_tokens + n_learned
        self.groups = [
            _group([own[n] for n in group], [seen[n] for n in group], device) for group in members
        ]
        self._tables: dict[tuple[int, int], Tables] = {}
        self._biases: dict[tuple[int, int | None, torch.dtype], torch.Tensor] = {}

    def tables(self, heads: int, key_heads: int) -> Tables:
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
    most_keys = -(-max(most_keys, max(before) + longest) // ROUND_KEYS) * ROUND_KEYS
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


def _tables(groups: Groups, heads: int, key_heads: int) -> Tables:
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
    return Tables(
        queries=tuple(queries),
        keys=tuple(keys),
        padding=tuple(padding),
        query_back=query_back,
        key_back=key_back,
        shared_from=torch.cat(shared_from),
        shared_to=torch.cat(shared_to),
        n_keys=groups.n_places * key_heads,
    )
