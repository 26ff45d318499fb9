"""Intervals of single questions: against scipy, and against every outcome that there can be."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from tunefork.evaluation import interval, paired_test


def scores(right: int, asked: int) -> list[float]:
    return [1.0] * right + [0.0] * (asked - right)


@cache
def gained(won: int, lost: int, asked: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a gain; what both have right does not matter to it."""
    base = [0.0] * won + [1.0] * (asked - won)
    tuned = [1.0] * won + [0.0] * lost + [1.0] * (asked - won - lost)
    found = paired_test(base, tuned, range(asked), confidence)
    return found.low, found.high


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9999])
@pytest.mark.parametrize(("right", "asked"), [(0, 5), (1, 9), (7, 15), (60, 90), (90, 90)])
def test_a_score_is_wilson_s(right: int, asked: int, confidence: float) -> None:
    found = interval(scores(right, asked), range(asked), confidence)
    wilson = scipy.stats.binomtest(right, asked).proportion_ci(confidence, method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def likeliest(won: int, lost: int, asked: int, difference: float) -> float:
    """Return the likeliest share of questions that only one has right, of this difference."""

    def unlikely(apart: float) -> float:
        up, down = (apart + difference) / 2, (apart - difference) / 2
        return -float(
            scipy.special.xlogy(won, up)
            + scipy.special.xlogy(lost, down)
            + scipy.special.xlogy(asked - won - lost, 1 - apart)
        )

    found = scipy.optimize.minimize_scalar(
        unlikely, bounds=(abs(difference), 1), method="bounded", options={"xatol": 1e-12}
    )
    return float(found.x)


@pytest.mark.parametrize(
    ("won", "lost", "asked"), [(1, 7, 21), (9, 3, 40), (5, 0, 12), (30, 25, 100)]
)
def test_a_gain_s_ends_are_where_the_score_test_stops_to_reject(
    won: int, lost: int, asked: int
) -> None:
    for end, sign in zip(gained(won, lost, asked), (1, -1), strict=True):
        apart = likeliest(won, lost, asked, end)
        error = math.sqrt((apart - end**2) / asked)
        z = ((won - lost) / asked - end) / error
        assert z == pytest.approx(sign * scipy.stats.norm.ppf(0.975), abs=2e-3)


def test_a_gain_s_interval_lies_above_zero_where_mcnemar_s_score_does() -> None:
    for won in range(12):
        for lost in range(12):
            above = won - lost > 1.96 * math.sqrt(won + lost)
            assert (gained(won, lost, 30)[0] > 0) is above, (won, lost)


def test_no_difference_is_the_less_sure_the_fewer_were_asked() -> None:
    for asked in (3, 20, 800):
        low, high = gained(0, 0, asked)
        wilson = scipy.stats.binomtest(0, asked).proportion_ci(method="wilson").high
        assert (low, high) == pytest.approx((-wilson, wilson))


@pytest.mark.parametrize(("asked", "within"), [(15, 0.75), (40, 0.9), (120, 1.0)])
def test_scores_are_covered_whatever_the_truth(asked: int, within: float) -> None:
    """Every outcome counted: 95 % on the mean, and from 93 to 97 % for most truths."""
    found = np.array(
        [
            [each.low, each.high]
            for right in range(asked + 1)
            for each in [interval(scores(right, asked), range(asked))]
        ]
    )
    truths = np.linspace(0.05, 0.95, 91)
    chances = scipy.stats.binom.pmf(np.arange(asked + 1)[:, None], asked, truths)
    covered = (chances * ((found[:, :1] <= truths) & (truths <= found[:, 1:]))).sum(0)
    assert covered.mean() == pytest.approx(0.95, abs=0.006)
    assert covered.min() > 0.91
    assert np.mean((covered >= 0.93) & (covered <= 0.97)) >= within


@pytest.mark.parametrize(("asked", "least", "most"), [(15, 0.94, 0.98), (40, 0.935, 0.97)])
def test_gains_are_covered_whatever_the_truth(asked: int, least: float, most: float) -> None:
    """Every outcome counted, for shares of 20 to 60 % that only one model has right."""
    outcomes = [(won, lost) for won in range(asked + 1) for lost in range(asked + 1 - won)]
    found = np.array([gained(won, lost, asked) for won, lost in outcomes])
    counts = np.array([(won, lost, asked - won - lost) for won, lost in outcomes])
    for apart in (0.2, 0.4, 0.6):
        for gain in (0.0, 0.05, 0.1):
            shares = [(apart + gain) / 2, (apart - gain) / 2, 1 - apart]
            chances = scipy.stats.multinomial.pmf(counts, asked, shares)
            is_in = (found[:, 0] <= gain + 1e-9) & (gain - 1e-9 <= found[:, 1])
            assert least <= chances[is_in].sum() <= most, (apart, gain)
