"""Which rows are nearly the same, directly or through others, judged by their sketches.

A row is near another as for the doctor (`duplicate.near`): prompts and answers each, and both
together, are alike. Prompts of the same words are near whatever is answered. Estimates err by 0.05
or so, so they may lie somewhat lower: a pair too many costs nothing, one too few is a leak.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tunefork.data.shingles import BANDS, CROWD, ROWS_PER_BAND
from tunefork.data.sketches import PROMPT, Sketches

# Of prompt, answer and both together: the doctor's 0.5, 0.5 and 0.6, less two standard errors.
_LEAST = np.array([0.4, 0.4, 0.5])
_BLOCK = 1 << 14  # pairs compared at once

_Places = NDArray[np.int64]


def near_groups(keys: NDArray[np.uint64], sketches: Sketches, rows: _Places) -> NDArray[np.uint64]:
    """Return a key for each row, equal for rows of one group: the least of the group's own.

    Linear in the rows but for sorting them once per band. Where more than 32 rows share a band,
    each is compared with the 31 behind it, in an order that does not depend on the file's.

    Args:
        keys: (n,) of the prompts; rows with the same prompt are one group from the start.
        sketches: Of all rows of the file.
        rows: (n,) Where among them each row is.
    """
    _, group_of = np.unique(keys, return_inverse=True)
    order = np.argsort(_mixed(sketches, rows), kind="stable")
    for band in range(BANDS):
        for first, second in _sharing(sketches, rows, order, band):
            is_open = group_of[first] != group_of[second]
            first, second = first[is_open], second[is_open]
            near = _are_near(sketches, rows[first], rows[second])
            if near.any():
                group_of = _join(group_of, first[near], second[near])
    least = np.full(int(group_of.max(initial=-1)) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group_of, keys)
    return least[group_of]


def _mixed(sketches: Sketches, rows: _Places) -> NDArray[np.uint64]:
    """Return a number for each row that follows from its sketch alone."""
    found = np.zeros(len(rows), np.uint64)
    for at in range(0, len(rows), _BLOCK):
        part = sketches[rows[at : at + _BLOCK]].reshape(-1, sketches[0].size).view(np.uint64)
        odd = np.random.default_rng(0).integers(1 << 63, size=part.shape[1], dtype=np.uint64)
        found[at : at + _BLOCK] = part @ (2 * odd + np.uint64(1))
    return found


def _sharing(
    sketches: Sketches, rows: _Places, order: _Places, band: int
) -> Iterator[tuple[_Places, _Places]]:
    """Yield pairs of rows whose prompts share a band: neighbours first, then next but one, …."""
    begin = band * ROWS_PER_BAND
    cut = sketches[rows[order], PROMPT, begin : begin + ROWS_PER_BAND].astype(np.uint32)
    keys = cut[:, 0] << 16 | cut[:, 1] << 8 | cut[:, 2]
    by_key = np.argsort(keys, kind="stable")
    keys, sorted_rows = keys[by_key], order[by_key]
    for step in range(1, CROWD):
        at = np.flatnonzero(keys[:-step] == keys[step:])
        if not len(at):
            return
        yield sorted_rows[at], sorted_rows[at + step]


def _are_near(sketches: Sketches, first: _Places, second: _Places) -> NDArray[np.bool_]:
    found = np.zeros(len(first), dtype=bool)
    for at in range(0, len(first), _BLOCK):
        part = slice(at, at + _BLOCK)
        shares = (sketches[first[part]] == sketches[second[part]]).mean(axis=2)  # (block, 3)
        found[part] = (shares >= _LEAST).all(axis=1) | (shares[:, PROMPT] == 1)
    return found


def _join(group_of: _Places, first: _Places, second: _Places) -> _Places:
    """Return the groups when rows of a pair are in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_groups = int(group_of.max()) + 1
    ends = (group_of[first], group_of[second])
    graph = coo_array((np.ones(len(first), np.int8), ends), shape=(n_groups, n_groups))
    joined = connected_components(graph, directed=False)[1]
    found: _Places = joined[group_of].astype(np.int64)
    return found
