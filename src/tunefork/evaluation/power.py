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
_MOST_COUNTED = 1_000  # questions whose outcomes are counted one by one


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
    gain: float,
    groups: int,
    *,
    spread: float | None = None,
    discordant: float = DISCORDANT,
    confidence: float = 0.95,
    min_gain: float = 0.0,
) -> float:
    """Return the chance that the gate finds a true gain.

    Args:
        gain: The true gain, from 0 to 1.
        groups: How many facts are asked about.
        spread: How much the gain differs from group to group; see `spread`. By default questions
            are single ones, right or wrong, of which a share `discordant` is right for one model
            only: then every outcome of McNemar's test is counted.
        discordant: That share.
        confidence: Of the test.
        min_gain: What the measured gain must reach as well.
    """
    if groups < 2:
        return 0.0
    if spread is None and groups <= _MOST_COUNTED:
        return _counted(gain, groups, max(discordant, abs(gain)), confidence, min_gain)
    from scipy.special import nctdtr, stdtrit

    spread = expected_spread(gain, discordant) if spread is None else spread
    if spread <= 0:
        return float(gain > 0 and gain >= min_gain)
    root = math.sqrt(groups) / spread
    line = max(float(stdtrit(groups - 1, (1 + confidence) / 2)), min_gain * root)
    return 1 - float(nctdtr(groups - 1, gain * root, line))


def _counted(gain: float, n: int, discordant: float, confidence: float, min_gain: float) -> float:
    """Add up the chances of all numbers of questions won and lost that the gate would accept."""
    import numpy as np
    from scipy.special import bdtr, ndtri
    from scipy.stats import binom

    apart = np.arange(n + 1)[:, None]  # questions that only one of the models has right
    won = np.arange(n + 1)[None, :]
    mean = (2 * won - apart) / n
    # Tango's interval lies above zero where McNemar's score does.
    is_sure = 2 * won - apart > float(ndtri((1 + confidence) / 2)) * np.sqrt(apart)
    p_values = 2 * bdtr(np.clip(apart - won, 0, None), apart, 0.5)
    accepted = (won <= apart) & is_sure & (p_values <= 1 - confidence) & (mean >= min_gain - 1e-9)
    share_won = (discordant + gain) / (2 * discordant) if discordant else 0.5
    chances = binom.pmf(apart, n, discordant) * binom.pmf(won, apart, share_won)
    return float(chances[accepted].sum())


def groups_for(
    gain: float,
    *,
    spread: float | None = None,
    confidence: float = 0.95,
    wanted: float = WANTED_POWER,
) -> int | None:
    """Return about how many groups it takes to find a true gain with the wanted chance.

    Args:
        gain: The gain that the user cares about, from 0 to 1.
        spread: As for `power`.
        confidence: Of the test.
        wanted: The chance.

    Returns:
        None where it would take more than a million.
    """
    if gain <= 0:
        return None

    def is_enough(groups: int) -> bool:
        return power(gain, groups, spread=spread, confidence=confidence) >= wanted

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, high * 2
        if high > _MOST_GROUPS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
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
