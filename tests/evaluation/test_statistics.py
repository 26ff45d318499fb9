"""The statistics against scipy, on known truths, and as properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefork.evaluation import (
    PairedResult,
    interval,
    mean_loss_test,
    paired_test,
    questions_needed,
)
from tunefork.evaluation.statistics import expanded_tail

SIMULATIONS = 400


def test_interval_agrees_with_scipy_on_single_groups() -> None:
    scores = np.random.default_rng(5).beta(2, 1, size=40)
    found = interval(scores.tolist(), range(40))
    expected = scipy.stats.bootstrap(
        (scores,),
        np.mean,
        confidence_level=1 - 2 * expanded_tail(40, 0.95),
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(6),
    ).confidence_interval
    assert found.mean == pytest.approx(scores.mean())
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)


def test_the_expanded_interval_is_student_s_for_normal_data() -> None:
    values = scipy.stats.norm.ppf((np.arange(12) + 0.5) / 12) * 0.1 + 0.5
    found = interval(values.tolist(), range(12))
    low, high = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize("n", [3, 8, 12, 40])
def test_p_value_agrees_with_scipy(n: int) -> None:
    generator = np.random.default_rng(n)
    base, tuned = generator.random(n), generator.random(n) + 0.15
    found = paired_test(base.tolist(), tuned.tolist(), range(n)).p_value
    expected = scipy.stats.permutation_test(
        (tuned, base),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert found == pytest.approx(expected, abs=1e-9 if n <= 12 else 0.01)


def test_all_right_and_all_wrong_are_wilson_s() -> None:
    for score in (0, 1):
        found = interval([float(score)] * 20, range(20))
        wilson = scipy.stats.binomtest(20 * score, 20).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def test_paraphrases_do_not_narrow_the_interval() -> None:
    scores = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    once = interval(scores * 2, [*range(10)] * 2)
    often = interval(scores * 5, [*range(10)] * 5)
    assert often == pytest.approx((once.mean, once.low, once.high)) or often == once
    alone = interval(scores * 5, range(50))
    assert alone.high - alone.low < (once.high - once.low) / 1.8


def test_one_group_says_nothing_about_others() -> None:
    found = paired_test([0.0] * 9, [1.0] * 9, ["same"] * 9)
    assert found.gain == 1
    assert found.low < 0
    assert found.p_value == 1


def test_no_difference_at_all() -> None:
    found = paired_test([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], range(3))
    assert (found.gain, found.p_value, found.questions, found.groups) == (0, 1, 3, 3)
    assert found.low < -0.4
    assert found.high > 0.4


scores_and_groups = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9)), min_size=1, max_size=40
)


@settings(max_examples=60)
@given(scores_and_groups)
def test_properties_of_the_paired_test(rows: list[tuple[float, float, int]]) -> None:
    base, tuned, groups = ([row[i] for row in rows] for i in range(3))
    found = paired_test(base, tuned, groups)
    assert found == paired_test(base, tuned, groups)
    assert -1 - 1e-9 <= found.low <= found.gain + 1e-9
    assert found.gain - 1e-9 <= found.high <= 1 + 1e-9
    assert 0 < found.p_value <= 1
    swapped = paired_test(tuned, base, groups)
    assert swapped.gain == pytest.approx(-found.gain, abs=1e-12)
    assert swapped.p_value == pytest.approx(found.p_value, abs=1e-9)


@settings(max_examples=40)
@given(scores_and_groups)
def test_properties_of_the_interval(rows: list[tuple[float, float, int]]) -> None:
    scores, groups = [row[0] for row in rows], [row[2] for row in rows]
    found = interval(scores, groups)
    assert found.mean == pytest.approx(sum(scores) / len(scores))
    assert -1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= 1 + 1e-9
    wider = interval(scores, groups, confidence=0.99)
    assert wider.low <= found.low + 1e-9
    assert wider.high >= found.high - 1e-9


def simulated(seed: int, gain: float) -> tuple[list[float], list[float], list[int]]:
    """Pass or fail on 2 to 4 paraphrases of each of 40 facts; facts differ in difficulty."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), generator.integers(2, 5, size=40))
    difficulty = generator.beta(2, 2, size=40)
    chance = np.clip(difficulty[groups], 0, 1)
    flips = np.where(generator.random(40) < 0.5, 1, -1)[groups]
    noise = 0.15 * flips  # what tuning does to a fact by luck
    base = generator.random(len(groups)) < chance * 0.6 + 0.2 - noise / 2 - gain / 2
    tuned = generator.random(len(groups)) < chance * 0.6 + 0.2 + noise / 2 + gain / 2
    return base.astype(float).tolist(), tuned.astype(float).tolist(), groups.tolist()


def test_intervals_cover_and_the_null_is_kept() -> None:
    covered = covered_gain = rejected = 0
    for seed in range(SIMULATIONS):
        base, tuned, groups = simulated(seed, gain=0.0)
        found = paired_test(base, tuned, groups, seed=seed)
        covered += found.low <= 0 <= found.high
        rejected += found.p_value <= 0.05
        base, tuned, groups = simulated(SIMULATIONS + seed, gain=0.2)
        found = paired_test(base, tuned, groups, seed=seed)
        covered_gain += found.low <= 0.2 <= found.high
    assert covered >= 0.92 * SIMULATIONS
    assert covered_gain >= 0.92 * SIMULATIONS
    assert rejected <= 0.06 * SIMULATIONS


def test_score_intervals_cover_with_few_groups() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(SIMULATIONS):
        scores = (generator.random(15) < 0.6).astype(float).tolist()
        found = interval(scores, range(15), seed=seed)
        covered += found.low <= 0.6 <= found.high
    assert covered >= 0.92 * SIMULATIONS


def test_as_many_questions_as_it_said_settle_it() -> None:
    base = ([0.0] * 6 + [1.0] * 4) * 2
    tuned = ([1.0] * 3 + [0.0] * 5 + [1.0] * 2) * 2
    found = paired_test(base, tuned, range(20))
    assert found.gain > 0 > found.low
    needed = questions_needed(found)
    assert needed is not None
    times = math.ceil((20 + needed) / 20) + 1
    more = paired_test(base * times, tuned * times, range(20 * times))
    assert more.low > 0
    fewer = times // 2
    assert paired_test(base * fewer, tuned * fewer, range(20 * fewer)).low <= 0


def test_few_groups_cannot_show_anything_however_good() -> None:
    found = paired_test([0.0] * 3, [1.0] * 3, range(3))
    assert (questions_needed(found) or 0) >= 3  # six signs are the fewest that reach 5 %


def test_no_number_of_questions_settles_a_gain_on_the_line() -> None:
    assert questions_needed(PairedResult(0.0, -0.2, 0.2, 1.0, 30, 30)) is None


@given(st.floats(0.01, 0.2), st.floats(0.001, 0.04))
def test_more_distance_needs_fewer_questions(gain: float, extra: float) -> None:
    def needed(gain: float) -> int:
        found = questions_needed(PairedResult(gain, gain - 0.3, gain + 0.3, 0.2, 30, 30))
        assert found is not None
        return found

    assert 1 <= needed(gain + extra) <= needed(gain)


def test_loss_falls_per_token_not_per_row() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(3, 0.5, size=200)
    tuned = base - generator.normal(0.5, 0.2, size=200)
    weights = generator.integers(0, 50, size=200)
    found = mean_loss_test(base.tolist(), tuned.tolist(), weights.tolist())
    assert found.base == pytest.approx(np.average(base, weights=weights))
    assert found.tuned == pytest.approx(np.average(tuned, weights=weights))
    assert found.drop == pytest.approx(found.base - found.tuned)
    assert 0 < found.low < found.drop < found.high
    assert found.p_value < 0.001
    assert found.rows == np.count_nonzero(weights)


def test_a_loss_that_did_not_move() -> None:
    found = mean_loss_test([1.0, 2.0], [1.0, 2.0], [3, 4])
    assert (found.drop, found.p_value) == (0, 1)
    assert found.low < 0 < found.high
