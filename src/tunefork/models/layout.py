"""How the tokens of one packed row relate: which document each belongs to, and what it may see.

A packed row holds many documents one after another, with no padding between them. The model
computes everything but attention on the row as it is; attention asks the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tunefork.models.attention import AttentionSettings, causal_attention

# Documents share one padded batch while the shortest is at least this share of the longest.
_SHORTEST_SHARE = 0.7


class Layout(Protocol):
    """What a model's attention function is given instead of a mask."""

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document: (1, tokens)."""
        ...

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Mix values for each token of the row.

        Args:
            query: (heads, tokens, head size).
            key: (key heads, tokens, head size).
            value: (key heads, tokens, value head size).
            settings: What the layer asks for.

        Returns:
            (tokens, heads, value head size).
        """
        ...


@dataclass(frozen=True)
class _Group:
    """Documents of similar length, which share one padded batch."""

    gather: torch.Tensor  # (documents, longest): the row's token at each place
    tokens: torch.Tensor  # (tokens of the group,): where they stand in the row
    places: torch.Tensor  # (tokens of the group,): where they stand in the flat padded batch
    is_dense: bool  # no padding, and the group is one stretch of the row


class PackedLayout:
    """Documents of the given lengths, one after another; each sees only itself."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.lengths = tuple(lengths)
        sizes = torch.tensor(self.lengths)
        starts = torch.cumsum(sizes, 0) - sizes
        total = int(sizes.sum())
        within = torch.arange(total) - torch.repeat_interleave(starts, sizes)
        self._positions = within.unsqueeze(0).to(device)
        self._groups = [
            _make_group(sizes[members], starts[members], device) for members in _similar(sizes)
        ]

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document: (1, tokens)."""
        return self._positions

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Mix values for each token of the row (see `Layout.attend`)."""
        if len(self._groups) == 1:
            return _attend_group(self._groups[0], query, key, value, settings)
        mixed = [_attend_group(group, query, key, value, settings) for group in self._groups]
        order = torch.cat([group.tokens for group in self._groups])
        return torch.empty_like(torch.cat(mixed)).index_copy(0, order, torch.cat(mixed))


def _similar(sizes: torch.Tensor) -> list[torch.Tensor]:
    """Split document numbers into groups of similar size, longest first."""
    order = torch.argsort(sizes, descending=True, stable=True)
    groups: list[list[int]] = []
    longest = 0
    for document in order.tolist():
        size = int(sizes[document])
        if not groups or size < _SHORTEST_SHARE * longest:
            groups.append([])
            longest = size
        groups[-1].append(document)
    return [torch.tensor(sorted(group)) for group in groups]


def _make_group(sizes: torch.Tensor, starts: torch.Tensor, device: torch.device | str) -> _Group:
    longest = int(sizes.max())
    offsets = torch.arange(longest)
    real = offsets < sizes.unsqueeze(1)  # (documents, longest)
    gather = torch.where(real, starts.unsqueeze(1) + offsets, starts.unsqueeze(1))
    tokens = gather[real]
    is_dense = bool(real.all()) and bool((tokens == torch.arange(len(tokens)) + tokens[0]).all())
    return _Group(
        gather=gather.to(device),
        tokens=tokens.to(device),
        places=real.flatten().nonzero().flatten().to(device),
        is_dense=is_dense,
    )


def _attend_group(
    group: _Group,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    settings: AttentionSettings,
) -> torch.Tensor:
    """Return (tokens of the group, heads, value head size)."""

    def padded(states: torch.Tensor) -> torch.Tensor:
        # (heads, tokens, size) -> (documents, heads, longest, size)
        by_token = states.transpose(0, 1)
        batch = by_token.index_select(0, group.gather.flatten())
        return batch.view(*group.gather.shape, *batch.shape[1:]).transpose(1, 2)

    mixed = causal_attention(padded(query), padded(key), padded(value), settings)
    flat = mixed.transpose(1, 2).flatten(0, 1)  # (documents * longest, heads, size)
    if group.is_dense:
        return flat
    return flat.index_select(0, group.places)
