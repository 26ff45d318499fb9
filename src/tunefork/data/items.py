"""Rows of tokens that are learned from together, and what else is known of each of them.

An item is what training shuffles, counts and keeps whole: one row of a conversation, the two rows
of a pair of answers. Its row in the user's file is one as well, so messages call it a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tunefork.core.hashing import hash_json
from tunefork.data.tokens import TokenRows

# (n_rows,), or (n_rows, k): one number for each row of tokens, or as many for each.
Column = NDArray[np.float32]


class Items:
    """Rows of tokens in items.

    Item i holds the rows `starts[i]:starts[i + 1]`, with `starts` int64 (n_items + 1,) beginning
    at 0; each row is one of its own where `starts` is not given. `columns` hold one number for each
    row, `along` one for each token, in the place of its weight.
    """

    def __init__(
        self,
        rows: TokenRows,
        starts: NDArray[np.int64] | None = None,
        columns: Mapping[str, Column] | None = None,
        along: Mapping[str, TokenRows] | None = None,
    ) -> None:
        self.rows = rows
        self.starts = np.arange(len(rows) + 1) if starts is None else starts
        self.columns: dict[str, Column] = dict(columns or {})
        assert self.starts[-1] == len(rows), "items end where the rows end"
        for name, column in self.columns.items():
            assert len(column) == len(rows), f"one `{name}` for each row"
        self.along: dict[str, TokenRows] = dict(along or {})
        for name, each in self.along.items():
            assert len(each) == len(rows), f"`{name}` along each row"

    @classmethod
    def of(cls, rows: TokenRows | Items) -> Items:
        """Return items as they are, and of plain rows each as an item."""
        return rows if isinstance(rows, Items) else cls(rows)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per item, of all its rows, (n_items,)."""
        if len(self) == len(self.rows):
            return self.rows.lengths
        ends = np.concatenate([[0], np.cumsum(self.rows.lengths)])
        found: NDArray[np.int64] = np.diff(ends[self.starts])
        return found

    @property
    def n_tokens(self) -> int:
        """Tokens of all rows."""
        return self.rows.n_tokens

    def rows_of(self, items: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows of some items, item by item."""
        chosen = np.asarray(items, dtype=np.int64)
        sizes = np.diff(self.starts)[chosen]
        # Each item's first row, and 0, 1, … within it.
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found: NDArray[np.int64] = np.repeat(self.starts[chosen], sizes) + within
        return found

    def select(self, items: Sequence[int] | NDArray[np.int64]) -> Items:
        """Return some items, in that order; one may occur twice."""
        chosen = np.asarray(items, dtype=np.int64)
        rows = self.rows_of(chosen)
        sizes = np.diff(self.starts)[chosen]
        return Items(
            self.rows.select(rows),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
            {name: column[rows] for name, column in self.columns.items()},
            {name: each.select(rows) for name, each in self.along.items()},
        )

    def with_column(self, name: str, column: Column) -> Items:
        """Return the same items with one more column."""
        return Items(self.rows, self.starts, {**self.columns, name: column}, self.along)

    def with_along(self, name: str, values: Column) -> Items:
        """Return the same items with one more number for each token, given end to end."""
        along = {**self.along, name: TokenRows(self.rows.ids, values, self.rows.offsets)}
        return Items(self.rows, self.starts, self.columns, along)

    @classmethod
    def concatenate(cls, parts: Sequence[Items]) -> Items:
        """Return the items of several sets; what a set lacks beside its tokens is 0 there."""
        names = dict.fromkeys(name for part in parts for name in part.columns)
        firsts = np.cumsum([0, *(len(part.rows) for part in parts)])
        starts = [part.starts[:-1] + first for part, first in zip(parts, firsts, strict=False)]
        all_along = dict.fromkeys(name for part in parts for name in part.along)
        return cls(
            TokenRows.concatenate([part.rows for part in parts]),
            np.concatenate([*starts, firsts[-1:]]),
            {
                name: np.concatenate([_column(part, name, parts) for part in parts])
                for name in names
            },
            {
                name: TokenRows.concatenate(
                    [
                        part.along[name] if name in part.along else _zeros(part.rows)
                        for part in parts
                    ]
                )
                for name in all_along
            },
        )

    def hash(self) -> str:
        """Return one content hash over tokens, weights, items and columns."""
        rows = self.rows.hash()
        if len(self) == len(self.rows) and not (self.columns or self.along):
            return rows
        columns = {name: column.tolist() for name, column in sorted(self.columns.items())}
        along = {name: each.hash() for name, each in sorted(self.along.items())}
        return hash_json([rows, self.starts.tolist(), columns, *([along] if along else [])])


def _zeros(rows: TokenRows) -> TokenRows:
    ids = rows.ids
    return TokenRows(ids, np.zeros(len(ids), np.float32), rows.offsets)


def _column(part: Items, name: str, parts: Sequence[Items]) -> Column:
    """Return a column of a set of items, made of zeros where only other sets have it."""
    found = part.columns.get(name)
    if found is not None:
        return found
    size = next(each.columns[name].shape[1:] for each in parts if name in each.columns)
    return np.zeros((len(part.rows), *size), np.float32)
