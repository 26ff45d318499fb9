"""How many questions it takes to see a gain, before any is answered, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from tunefork.evaluation.statistics import by_group

_Name = TypeVar("_Name", bound=Hashable)

DISCORDANT = 0.4  # share of questions that only one of two models has right, where it is unknown
WANTED_POWER = 0.8  # the custom of most fields
_MOST_GROUPS = 1_000_000


def spread(base: Sequence[float], tuned: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Return how much the gain differs from group to group: a standard deviation.

    Groups of unequal size count by their size, as they do in the mean.
    """
    import numpy as np

    sums, sizes = by_group([b - a for a, b in zip(base, tuned, strict=True)], groups)
    n = len(sums)
    if n < 2:
        return math.nan
    rests = sums - sums.sum() / sizes.sum() * sizes
    return float(np.sqrt((rests**2).sum() / (n - 1)) / sizes.mean())


def expected_spread(gain: float, discordant: float = DISCORDANT) -> float:
    """Return the spread of questions that are right or wrong, each a group of its own.

    Of them a share `discordant` is answered right by only one of the models (Connor, "Sample size
    for testing differences in proportions for the paired-sample design", Biometrics 43, 1987).
    """
    return math.sqrt(max(discordant, abs(gain)) - gain**2)


def power(
    gain: float, spread: float, groups: int, *, confidence: float = 0.95, min_gain: float = 0.0
) -> float:
    """Return the chance that a true gain is found: the mean of `groups` beyond both lines.

    The lines are `min_gain` and what Student's t asks for at this confidence; the mean of groups
    of this spread follows a noncentral t distribution.
    """
    from scipy.special import nctdtr, stdtrit

    if groups < 2:
        return 0.0
    if spread <= 0:
        return float(gain > 0 and gain >= min_gain)
    root = math.sqrt(groups) / spread
    line = max(float(stdtrit(groups - 1, (1 + confidence) / 2)), min_gain * root)
    return 1 - float(nctdtr(groups - 1, gain * root, line))


def groups_for(
    gain: float,
    *,
    spread: float | None = None,
    confidence: float = 0.95,
    wanted: float = WANTED_POWER,
) -> int | None:
    """Return the fewest groups with which a true gain is found with the wanted chance.

    Args:
        gain: The gain that the user cares about, from 0 to 1.
        spread: See `spread`; by default `expected_spread` of the gain.
        confidence: Of the test.
        wanted: The chance.

    Returns:
        None where it would take more than a million.
    """
    spread = expected_spread(gain) if spread is None else spread
    if gain <= 0:
        return None
    low, high = 1, 2
    while power(gain, spread, high, confidence=confidence) < wanted:
        low, high = high, high * 2
        if high > _MOST_GROUPS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power(gain, spread, middle, confidence=confidence) < wanted:
            low = middle
        else:
            high = middle
    # Signs alone cannot reach the level with fewer.
    return max(high, math.ceil(math.log2(2 / (1 - confidence))))


def holm(p_values: Mapping[_Name, float]) -> dict[_Name, float]:
    """Return p-values that may be read together: Holm's correction.

    An error among all of them is as unlikely as in one (Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6, 1979).
    """
    ranked = sorted(p_values, key=lambda name: p_values[name])
    found: dict[_Name, float] = {}
    largest = 0.0
    for index, name in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - index) * p_values[name]))
        found[name] = largest
    return {name: found[name] for name in p_values}
