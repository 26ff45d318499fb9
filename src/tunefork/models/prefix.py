"""Rows that begin alike: found, so that what they share is computed once.

Rows behind one system prompt share it; chosen and rejected answers, or several sampled ones, share
their whole prompt. What is shared may branch again: the result is a tree (a radix tree).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Ids = NDArray[np.int32]

# A shared stretch costs attention a batch of its own: shorter ones are not worth it.
_SHORTEST_SHARED = 8  # tokens
_LEAST_SAVED = 32  # tokens, over all rows that share the stretch


@dataclass(frozen=True)
class Stretch:
    """Tokens `begin` to `end` of rows that have them, and all before, in common.

    `parent` is the number of the stretch before it, or -1. `rows` holds one row alone where
    nothing more is shared, and this is then that row's end.
    """

    begin: int
    end: int
    parent: int
    rows: tuple[int, ...]


def share_beginnings(rows: Sequence[_Ids]) -> list[Stretch]:
    """Return the stretches that rows consist of; parents come first, no row ends shared.

    Args:
        rows: Token ids of each, (tokens,), one at least. Shared are only stretches that pay.
    """
    order = _alike_together(rows)
    common = _common_lengths(rows, order)
    if not (common >= _SHORTEST_SHARED).any():
        return whole(rows)
    return list(_Tree(rows, order, common).stretches(0, len(order), 0, -1))


def whole(rows: Sequence[_Ids]) -> list[Stretch]:
    """Return each row as one stretch of its own."""
    return [Stretch(0, len(row), -1, (number,)) for number, row in enumerate(rows)]


def clusters(rows: Sequence[_Ids]) -> list[tuple[list[int], int]]:
    """Return the rows that begin alike, together, and how many tokens any two of them share.

    Only stretches count that pay for two rows already.
    """
    order = _alike_together(rows)
    common = _common_lengths(rows, order)
    cuts = [0, *(np.flatnonzero(common < _LEAST_SAVED) + 1).tolist(), len(order)]
    return [
        (order[low:high], int(common[low : high - 1].min()) if high - low > 1 else 0)
        for low, high in itertools.pairwise(cuts)
        if high > low
    ]


class _Tree:
    """Walks sorted rows; `common[i]` tokens are shared by the sorted rows i and i + 1."""

    def __init__(self, rows: Sequence[_Ids], order: list[int], common: NDArray[np.int64]) -> None:
        self._rows, self._order, self._common = rows, order, common
        self._count = 0

    def stretches(self, low: int, high: int, depth: int, parent: int) -> Iterator[Stretch]:
        """Yield what the sorted rows `low` to `high` consist of from token `depth` on."""
        members = tuple(self._order[low:high])
        if len(members) == 1:
            yield self._numbered(depth, len(self._rows[members[0]]), parent, members)
            return
        shared = int(self._common[low : high - 1].min())
        if _pays(shared - depth, len(members)):
            yield self._numbered(depth, shared, parent, members)
            parent, depth = self._count - 1, shared
        # Cut where neighbours share too little more to go on together.
        weak = self._common[low : high - 1] - depth < _SHORTEST_SHARED
        if not weak.any():  # a stretch that does not pay for so few rows
            weak = self._common[low : high - 1] == shared
        cuts = [low, *(low + 1 + np.flatnonzero(weak)).tolist(), high]
        for first, last in itertools.pairwise(cuts):
            yield from self.stretches(first, last, depth, parent)

    def _numbered(self, begin: int, end: int, parent: int, rows: tuple[int, ...]) -> Stretch:
        self._count += 1
        return Stretch(begin, end, parent, rows)


def _pays(length: int, n_rows: int) -> bool:
    return length >= _SHORTEST_SHARED and length * (n_rows - 1) >= _LEAST_SAVED


def _alike_together(rows: Sequence[_Ids]) -> list[int]:
    """Return row numbers in an order in which rows that begin alike are neighbours."""
    return sorted(range(len(rows)), key=lambda number: rows[number].tobytes())


def _common_lengths(rows: Sequence[_Ids], order: Sequence[int]) -> NDArray[np.int64]:
    """Return how many tokens each row shares with the next; each keeps one of its own."""
    found = np.zeros(max(0, len(order) - 1), dtype=np.int64)
    for at, (number, following) in enumerate(itertools.pairwise(order)):
        one, other = rows[number], rows[following]
        size = min(len(one), len(other)) - 1
        if size < _SHORTEST_SHARED or one[0] != other[0]:
            continue
        differs = np.flatnonzero(one[:size] != other[:size])
        found[at] = differs[0] if len(differs) else size
    return found
