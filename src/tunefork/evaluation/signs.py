"""The sign-flip permutation test: how likely is a sum of differences so far from zero by luck?

Were two models alike, each group's difference could as well have had the other sign (Good,
"Permutation Tests", 2000). Where the sums of groups are whole numbers, as they are where answers
are right or wrong, all flips are counted; for single questions that is McNemar's exact test
("Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
1947).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FLIPS = 20_000
_MORE_FLIPS = 200_000
_FEW_EXTREMES = 20  # so few of the flips call for more of them
_EXACT_GROUPS = 16
_MOST_COUNTED = 50_000  # the largest sum whose distribution is counted
_CHUNK_ELEMENTS = 4_000_000  # bounds the memory of a block of flips: 32 MB
_ROUNDING = 1e-9


def sign_flip(sums: Floats, seed: int) -> float:
    """Return the two-sided p-value of the sum of groups under random signs.

    Exact for whole numbers and for up to 16 groups; otherwise at least 20,000 flips are drawn,
    and one is added to count and total (Phipson and Smyth, "Permutation P-values Should Never
    Be Zero", 2010).
    """
    import numpy as np

    moved = sums[np.abs(sums) > _ROUNDING]  # a zero has no sign
    least = abs(float(moved.sum())) - _ROUNDING
    if least <= 0:
        return 1.0
    whole = np.rint(np.abs(moved)).astype(np.int64)
    if np.abs(np.abs(moved) - whole).max() <= _ROUNDING and whole.sum() <= _MOST_COUNTED:
        return _counted(whole, round(least))
    if len(moved) <= _EXACT_GROUPS:
        totals = np.zeros(1)
        for value in moved:
            totals = np.concatenate([totals + value, totals - value])
        return float(np.mean(np.abs(totals) >= least))
    generator = np.random.default_rng(seed)
    flips, extreme = FLIPS, _count_extreme(generator, moved, least, FLIPS)
    if extreme < _FEW_EXTREMES:
        flips += _MORE_FLIPS
        extreme += _count_extreme(generator, moved, least, _MORE_FLIPS)
    return (extreme + 1) / (flips + 1)


def _counted(sizes: NDArray[np.int64], least: int) -> float:
    """Return the p-value of whole numbers from the distribution of their sum, group by group."""
    import numpy as np

    total = int(sizes.sum())
    chances = np.zeros(2 * total + 1)  # of the sums from -total to total
    chances[total] = 1.0
    for size in sizes.tolist():
        moved = np.zeros_like(chances)
        moved[size:] = chances[:-size]
        moved[:-size] += chances[size:]
        chances = moved / 2
    return min(1.0, float(2 * chances[total + least :].sum()))


def _count_extreme(generator: np.random.Generator, sums: Floats, least: float, flips: int) -> int:
    """Count the random signs under which the sum is as far from zero as it is."""
    import numpy as np

    n, extreme = len(sums), 0
    step = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        flipped = generator.integers(0, 2, size=(rows, n), dtype=np.int8)
        totals = sums.sum() - 2 * (flipped @ sums)
        extreme += int(np.count_nonzero(np.abs(totals) >= least))
    return extreme
