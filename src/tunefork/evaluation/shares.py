"""Intervals of single questions that are right or wrong: score intervals, without resampling.

A mean of few right or wrong answers takes few values, so that percentiles of resamples cover the
truth now too seldom and now too often. Both intervals here hold what a test of the true value
would not reject.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_HALVINGS = 60  # of an interval of length 2: down to the last bit


def wilson(right: int, asked: int, confidence: float) -> tuple[float, float]:
    """Return the interval of a share (Wilson, "Probable inference", JASA 22, 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    variance = share * (1 - share) / asked + z * z / (4 * asked * asked)
    half = z / (1 + z * z / asked) * math.sqrt(variance)
    return max(0.0, middle - half), min(1.0, middle + half)


def tango(won: int, lost: int, asked: int, confidence: float) -> tuple[float, float]:
    """Return the interval of the difference of two shares on the same questions.

    Of `asked` questions `won` are right only after the change, and `lost` only before it. (Tango,
    "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 1998.)
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    gain = (won - lost) / asked

    def is_below(difference: float) -> bool:
        """Say whether a true difference is so small that what was seen is surely more."""
        return _score(won, lost, asked, difference) > z

    def is_above(difference: float) -> bool:
        return _score(won, lost, asked, difference) < -z

    low, inside = -1.0, gain
    for _ in range(_HALVINGS):
        middle = (low + inside) / 2
        low, inside = (middle, inside) if is_below(middle) else (low, middle)
    high, inside = 1.0, gain
    for _ in range(_HALVINGS):
        middle = (high + inside) / 2
        high, inside = (middle, inside) if is_above(middle) else (high, middle)
    return low, high


def _score(won: int, lost: int, asked: int, difference: float) -> float:
    """Return how many standard errors what was seen lies above a true difference.

    The error is that of the likeliest shares with this difference.
    """
    b = (2 * asked - won + lost) * difference - won - lost
    c = -lost * difference * (1 - difference)
    only_before = (math.sqrt(max(b * b - 8 * asked * c, 0.0)) - b) / (4 * asked)
    variance = asked * (2 * only_before + difference * (1 - difference))
    above = won - lost - asked * difference
    if variance <= 0:  # such a difference leaves nothing to chance
        return math.copysign(math.inf, above) if above else 0.0
    return above / math.sqrt(variance)
