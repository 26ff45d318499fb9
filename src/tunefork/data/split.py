"""Hold rows out for validation, so that no question is both trained on and asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import SpecError


def split(
    keys: NDArray[np.uint64],
    share: float,
    *,
    minimum: int = 8,  # below this a validation loss is noise
    maximum: int = 512,  # beyond this it only costs time
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows into (training, validation), both as row numbers in ascending order.

    `keys` (n_rows,) are equal for rows with the same prompt; see `prompt_key`. Such rows stay
    together. Which prompts are held out depends on their keys, not on the order of the rows.
    `minimum` and `maximum` bound the number of rows held out; never more than half of them. With
    fewer than two prompts, or a share of 0, nothing is held out.

    Raises:
        SpecError: where the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise SpecError(
            f"cannot hold out a share of {share}", hint="choose a share from 0 to below 1"
        )
    groups, group_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    is_held_out = np.zeros(len(keys), dtype=bool)
    if share > 0 and len(groups) > 1:
        wanted = min(max(round(share * len(keys)), minimum), maximum, len(keys) // 2)
        is_held_out = _choose(sizes, max(wanted, 1))[group_of]
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _choose(sizes: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
    """Take whole groups in the order of their key while they fit; at least the smallest one."""
    chosen = np.zeros(len(sizes), dtype=bool)
    for group, size in enumerate(sizes.tolist()):
        if wanted == 0:
            break
        if size <= wanted:
            chosen[group] = True
            wanted -= size
    if not chosen.any():
        chosen[int(np.argmin(sizes))] = True
    return chosen
