"""Hold rows out for validation, so that no question is both trained on and asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import SpecError
from tunefork.data.near_groups import near_groups
from tunefork.data.sketches import MOST_SKETCHED, Sketches

_CHAIN_SHARE = 0.2  # of the rows in one group: no copies any more, but a likeness of all

_Keys = NDArray[np.uint64]
_Places = NDArray[np.int64]


def group_rows(prompts: _Keys, sketches: Sketches, rows: _Places) -> tuple[_Keys, str | None]:
    """Return a key for each row, equal for rows that have to stay together, and what to say of it.

    Those are rows with the same prompt, and near-duplicates (see `near_groups`). Where these form a
    chain of more than a fifth of the rows, or the file has more rows than are sketched, rows with
    the same prompt alone stay together.

    Args:
        prompts: (n,) `prompt_key` of each row.
        sketches: Of all rows of the file, or of the first `MOST_SKETCHED`.
        rows: (n,) The row's number in the file.
    """
    if len(rows) and rows.max() >= len(sketches):
        return prompts, (
            f"of more than {MOST_SKETCHED:,} rows only those with the same prompt are kept on one "
            "side of the split, not near-duplicates: the held-out loss may flatter"
        )
    keys = near_groups(prompts, sketches, rows)
    largest = _largest(keys)
    if largest > _CHAIN_SHARE * len(keys) and largest > _largest(prompts):
        return prompts, (
            f"{largest:,} of {len(keys):,} rows are near-duplicates of each other in a chain, so "
            "only those with the same prompt are kept on one side of the split: the held-out loss "
            "may flatter"
        )
    return keys, None


def split(
    keys: _Keys,
    share: float,
    *,
    labels: NDArray[np.generic] | None = None,
    minimum: int = 8,  # below this a validation loss is noise
    maximum: int = 512,  # beyond this it only costs time
) -> tuple[_Places, _Places]:
    """Divide rows into (training, validation), both as row numbers in ascending order.

    Rows with equal `keys` (n_rows,) stay together; see `group_rows`. Which are held out depends on
    their keys, not on the order of the rows: more rows move the line between the two, and mix
    nothing anew. `minimum` and `maximum` bound the number of rows held out; never more than half of
    them. With fewer than two groups, or a share of 0, nothing is held out.

    With `labels` (n_rows,) as many rows are held out of each as its share of all rows says.

    Raises:
        SpecError: where the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise SpecError(
            f"cannot hold out a share of {share}", hint="choose a share from 0 to below 1"
        )
    groups, group_of = np.unique(keys, return_inverse=True)
    is_held_out = np.zeros(len(keys), dtype=bool)
    if share > 0 and len(groups) > 1:
        wanted = min(max(round(share * len(keys)), minimum), maximum, len(keys) // 2)
        if labels is None:
            label_of = np.zeros(len(keys), np.int64)
        else:
            label_of = np.unique(labels, return_inverse=True)[1]
        is_held_out = _choose(group_of, label_of, max(wanted, 1))[group_of]
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _choose(group_of: _Places, label_of: _Places, wanted: int) -> NDArray[np.bool_]:
    """Take whole groups in the order of their key while their labels' shares last; at least one."""
    left = _quotas(np.bincount(label_of), wanted)
    sizes = np.bincount(group_of)
    chosen = np.zeros(len(sizes), dtype=bool)
    ends = np.cumsum(sizes)
    by_group = label_of[np.argsort(group_of, kind="stable")]
    n_left = wanted
    for group, end in enumerate(ends.tolist()):
        if n_left == 0:
            break
        size = int(sizes[group])
        if size > n_left:
            continue
        found, counts = np.unique(by_group[end - size : end], return_counts=True)
        if (counts <= left[found]).all():
            chosen[group] = True
            left[found] -= counts
            n_left -= size
    if not chosen.any():
        chosen[int(np.argmin(sizes))] = True
    return chosen


def _quotas(sizes: _Places, wanted: int) -> _Places:
    """Divide a number of rows over the labels by their sizes; what is left goes by remainder."""
    exact = sizes * wanted / sizes.sum()
    quotas: _Places = np.floor(exact).astype(np.int64)
    short = wanted - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:short]] += 1
    return quotas


def _largest(keys: _Keys) -> int:
    return int(np.unique(keys, return_counts=True)[1].max(initial=0))
