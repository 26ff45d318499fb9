"""All rows of a data set as three flat arrays: what training reads and a run names by hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tunefork.core.hashing import hash_bytes, hash_json
from tunefork.data.render import Rendered


@dataclass(frozen=True)
class TokenRows:
    """Ragged rows of token ids and loss weights, end to end.

    `ids` int32 and `weights` float32 are (n_tokens,); row i lies at
    `offsets[i]:offsets[i + 1]`, with `offsets` int64 (n_rows + 1,) beginning at 0.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        n_tokens = len(self.ids)
        assert len(self.weights) == n_tokens, "one weight per token"
        assert len(self.offsets) > 0, "offsets begin at 0, also when there are no rows"
        assert self.offsets[0] == 0, "offsets begin at 0"
        assert self.offsets[-1] == n_tokens, "offsets end at the number of tokens"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, (n_rows,)."""
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return views of one row's ids and weights, both (length,)."""
        begin, end = self.offsets[index], self.offsets[index + 1]
        return self.ids[begin:end], self.weights[begin:end]

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
        """Return a copy of the rows at `indices`, in that order; a row may occur twice."""
        chosen = np.asarray(indices, dtype=np.int64)
        offsets = _offsets(self.lengths[chosen])
        # Token t of the result, in chosen row r, lies as far behind that row's old beginning
        # as t lies behind its new one.
        shift = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], self.lengths[chosen])
        source = np.arange(offsets[-1]) + shift
        return TokenRows(self.ids[source], self.weights[source], offsets)

    @classmethod
    def concatenate(cls, parts: Sequence[TokenRows]) -> TokenRows:
        """Join several sets, in their order."""
        lengths = [part.lengths for part in parts]
        return cls(
            np.concatenate([part.ids for part in parts] or [np.empty(0, np.int32)]),
            np.concatenate([part.weights for part in parts] or [np.empty(0, np.float32)]),
            _offsets(np.concatenate(lengths or [np.empty(0, np.int64)])),
        )

    def hash(self) -> str:
        """Return one content hash over ids, weights and row boundaries, equal on all machines."""
        arrays = {
            "ids": self.ids.astype("<i4"),
            "weights": self.weights.astype("<f4"),
            "offsets": self.offsets.astype("<i8"),
        }
        return hash_json({name: hash_bytes(array.tobytes()) for name, array in arrays.items()})


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
