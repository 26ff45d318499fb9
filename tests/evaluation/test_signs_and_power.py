"""Exact tests against scipy, power as simulated, many tests at once, and attempts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tunefork.evaluation import (
    attempt,
    expected_spread,
    groups_for,
    holm,
    paired_test,
    power,
    question_hashes,
    spread,
)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_single_questions_are_mcnemar_s(pairs: list[tuple[bool, bool]]) -> None:
    base, tuned = ([float(pair[i]) for pair in pairs] for i in range(2))
    won, lost = pairs.count((False, True)), pairs.count((True, False))
    expected = scipy.stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    found = paired_test(base, tuned, range(len(pairs)))
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_whole_sums_are_counted_as_scipy_counts_them() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(11), 3)
    base, tuned = (generator.random(33) < 0.4).astype(float), (generator.random(33) < 0.7) * 1.0
    sums = np.bincount(groups, tuned - base)
    expected = scipy.stats.permutation_test(
        (sums, np.zeros(11)),
        lambda a, b, axis: np.sum(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    found = paired_test(base.tolist(), tuned.tolist(), groups.tolist())
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_drawn_flips_agree_with_counted_ones() -> None:
    generator = np.random.default_rng(1)
    differences = generator.integers(-2, 4, size=30)
    base = [0.0] * 30
    counted = paired_test(base, (differences / 1.0).tolist(), range(30)).p_value
    drawn = paired_test(base, (differences / np.pi).tolist(), range(30)).p_value
    assert drawn == pytest.approx(counted, abs=0.01)


def test_strong_evidence_is_told_beyond_what_a_few_flips_resolve() -> None:
    generator = np.random.default_rng(2)
    found = paired_test([0.0] * 60, generator.random(60).tolist(), range(60))
    assert found.p_value < 1e-5


def test_high_confidence_keeps_widening_the_interval() -> None:
    generator = np.random.default_rng(3)
    base, tuned = generator.random(80), generator.random(80) + 0.1
    widths = []
    for confidence in (0.95, 0.99, 0.999, 0.9999, 0.99999):
        found = paired_test(base.tolist(), tuned.tolist(), range(80), confidence)
        widths.append(found.high - found.low)
        half = scipy.stats.t.ppf((1 + confidence) / 2, 79) * scipy.stats.sem(tuned - base)
        assert widths[-1] == pytest.approx(2 * half, rel=0.08)
    assert widths == sorted(widths)


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_s_correction(p_values: dict[str, float]) -> None:
    found = holm(p_values)
    assert list(found) == list(p_values)
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for name, before in zip(ordered[1:], ordered, strict=False):
        assert found[name] >= found[before]
    assert all(p_values[name] <= value <= 1 for name, value in found.items())
    assert found[ordered[0]] == min(1.0, len(p_values) * p_values[ordered[0]])


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )


@pytest.mark.parametrize(("gain", "groups"), [(0.1, 60), (0.15, 100), (0.2, 60), (0.3, 30)])
def test_power_is_as_predicted(gain: float, groups: int) -> None:
    """Within 5 points, and the error of 2,000 simulated comparisons."""
    predicted = power(gain, groups, spread=expected_spread(gain))
    generator = np.random.default_rng(groups)
    won, lost = (0.4 + gain) / 2, (0.4 - gain) / 2
    drawn = generator.choice([1.0, -1.0, 0.0], p=[won, lost, 0.6], size=(2000, groups))
    low = drawn.mean(axis=1) - scipy.stats.t.ppf(0.975, groups - 1) * scipy.stats.sem(drawn, axis=1)
    assert np.mean(low > 0) == pytest.approx(predicted, abs=0.05)


def test_as_many_groups_as_it_said_find_the_gain() -> None:
    needed = groups_for(0.1)
    assert needed is not None
    assert power(0.1, needed) >= 0.8 > power(0.1, needed - 1)
    spread_known = groups_for(0.1, spread=expected_spread(0.1))
    assert spread_known is not None
    assert 300 < spread_known < 330  # 2.8² * 0.39 / 0.01
    assert spread_known <= needed < 1.1 * spread_known
    assert groups_for(0.0) is None
    assert groups_for(1.0) == 6  # six signs are the fewest that reach 5 %


def test_the_spread_of_groups() -> None:
    generator = np.random.default_rng(4)
    base, tuned = generator.random(90), generator.random(90)
    groups = np.repeat(np.arange(30), 3).tolist()
    means = (tuned - base).reshape(30, 3).mean(axis=1)
    assert spread(base.tolist(), tuned.tolist(), groups) == pytest.approx(means.std(ddof=1))


@given(st.floats(0.5, 0.999), st.integers(1, 500))
def test_all_attempts_together_spend_one_error(confidence: float, attempts: int) -> None:
    errors = [(1 - attempt(k, confidence).confidence) / 2 for k in range(1, attempts + 1)]
    assert errors[0] == pytest.approx((1 - confidence) / 2)
    assert errors == sorted(errors, reverse=True)
    assert sum(errors) <= 1 - confidence + 1e-9


def test_nothing_asked_is_no_question() -> None:
    assert question_hashes([]) == []
