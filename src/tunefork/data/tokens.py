"""All rows of a data set as token ids and loss weights: what training reads, a run names by hash.

Rows are views. Choosing and joining them copies no tokens, so that arrays on disk stay there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tunefork.core.hashing import hash_json
from tunefork.data.render import Rendered

_Ids = NDArray[np.int32]
_Weights = NDArray[np.float32]
_BLOCK_ROWS = 1 << 14  # copied at once where rows have to lie end to end


class TokenRows:
    """Ragged rows of token ids and loss weights.

    Built from rows end to end: `ids` int32 and `weights` float32 are (n_tokens,); row i lies at
    `offsets[i]:offsets[i + 1]`, with `offsets` int64 (n_rows + 1,) beginning at 0. The arrays may
    be memory-mapped.
    """

    def __init__(self, ids: _Ids, weights: _Weights, offsets: NDArray[np.int64]) -> None:
        n_tokens = len(ids)
        assert len(weights) == n_tokens, "one weight per token"
        assert len(offsets) > 0, "offsets begin at 0, also when there are no rows"
        assert offsets[0] == 0, "offsets begin at 0"
        assert offsets[-1] == n_tokens, "offsets end at the number of tokens"
        self._stores: tuple[tuple[_Ids, _Weights], ...] = ((ids, weights),)
        self._begins = offsets[:-1]  # (n_rows,): where in its store each row begins
        self._lengths = np.diff(offsets)  # (n_rows,)
        self._store_of = np.zeros(len(offsets) - 1, dtype=np.int16)  # (n_rows,)
        self._is_whole = True  # the rows are the one store, end to end

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, (n_rows,)."""
        return self._lengths

    @property
    def n_tokens(self) -> int:
        """Tokens of all rows."""
        return int(self._lengths.sum())

    @property
    def ids(self) -> _Ids:
        """Ids of all rows end to end, (n_tokens,); a copy where rows were chosen or joined."""
        if self._is_whole:
            return self._stores[0][0]
        return np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in self._blocks())])

    @property
    def weights(self) -> _Weights:
        """Weights of all rows end to end, (n_tokens,); a copy where rows were chosen or joined."""
        if self._is_whole:
            return self._stores[0][1]
        return np.concatenate([np.empty(0, np.float32), *(found for _, found in self._blocks())])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where in `ids` each row begins, and where the last one ends, (n_rows + 1,)."""
        return _offsets(self._lengths)

    def row(self, index: int) -> tuple[_Ids, _Weights]:
        """Return views of one row's ids and weights, both (length,)."""
        begin = self._begins[index]
        end = begin + self._lengths[index]
        ids, weights = self._stores[self._store_of[index]]
        return ids[begin:end], weights[begin:end]

    @classmethod
    def from_rendered(cls, rows: Iterable[Rendered]) -> TokenRows:
        """Join rendered rows in their order."""
        rendered = list(rows)
        lengths = [len(row.ids) for row in rendered]
        n_tokens = sum(lengths)
        ids = chain.from_iterable(row.ids for row in rendered)
        weights = chain.from_iterable(row.weights for row in rendered)
        return cls(
            np.fromiter(ids, np.int32, n_tokens),
            np.fromiter(weights, np.float32, n_tokens),
            _offsets(np.asarray(lengths, dtype=np.int64)),
        )

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> TokenRows:
        """Return the rows at `indices`, in that order; a row may occur twice."""
        chosen = np.asarray(indices, dtype=np.int64)
        return _view(
            self._stores, self._begins[chosen], self._lengths[chosen], self._store_of[chosen]
        )

    def cut(self, limit: int) -> tuple[TokenRows, NDArray[np.int64]]:
        """Return each row in pieces of `limit` tokens, and which row each piece is of.

        The last piece is what is left; pieces do not overlap.
        """
        pieces = np.maximum(-(-self._lengths // limit), 1)  # (n_rows,)
        row_of = np.repeat(np.arange(len(self)), pieces)
        at = np.arange(len(row_of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        lengths = np.minimum(self._lengths[row_of] - at * limit, limit)
        begins = self._begins[row_of] + at * limit
        return _view(self._stores, begins, lengths, self._store_of[row_of]), row_of

    @classmethod
    def concatenate(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Return the rows of several sets, in their order."""
        if not parts:
            return cls.from_rendered([])
        firsts = np.cumsum([0, *(len(part._stores) for part in parts)])
        return _view(
            tuple(store for part in parts for store in part._stores),
            np.concatenate([part._begins for part in parts]),
            np.concatenate([part._lengths for part in parts]),
            np.concatenate(
                [part._store_of + first for part, first in zip(parts, firsts, strict=False)]
            ),
        )

    def hash(self) -> str:
        """Return one content hash over ids, weights and row boundaries, equal on all machines."""
        ids, weights = hashlib.sha256(), hashlib.sha256()
        for block_ids, block_weights in self._blocks():
            ids.update(_bytes(block_ids, "<i4"))
            weights.update(_bytes(block_weights, "<f4"))
        offsets = hashlib.sha256(_bytes(self.offsets, "<i8"))
        found = {"ids": ids, "weights": weights, "offsets": offsets}
        return hash_json({name: f"sha256:{digest.hexdigest()}" for name, digest in found.items()})

    def _blocks(self) -> Iterator[tuple[_Ids, _Weights]]:
        """Yield the rows end to end, some thousand at a time."""
        for first in range(0, len(self), _BLOCK_ROWS):
            begins = self._begins[first : first + _BLOCK_ROWS]
            lengths = self._lengths[first : first + _BLOCK_ROWS]
            store_of = self._store_of[first : first + _BLOCK_ROWS]
            store = int(store_of[0])
            if (store_of == store).all() and (begins[1:] == (begins + lengths)[:-1]).all():
                ids, weights = self._stores[store]
                whole = slice(begins[0], begins[-1] + lengths[-1])
                yield ids[whole], weights[whole]
                continue
            rows = [self.row(at) for at in range(first, first + len(begins))]
            yield np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def _view(
    stores: tuple[tuple[_Ids, _Weights], ...],
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    store_of: NDArray[np.int16],
) -> TokenRows:
    """Return rows that lie anywhere in some stores."""
    rows = TokenRows.__new__(TokenRows)
    rows._stores, rows._begins, rows._lengths = stores, begins, lengths
    rows._store_of, rows._is_whole = store_of, False
    return rows


def _bytes(array: NDArray[np.generic], kind: DTypeLike) -> bytes:
    return array.astype(kind, copy=False).tobytes()


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
