"""The gate against simulated truth: how often it errs, and how often its intervals cover it.

The short versions allow for the error of fewer simulations; `make soak` runs 2,000 of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.stats

from tests.evaluation.test_gate import GOOD
from tunefork.evaluation import (
    Attempt,
    GateSettings,
    attempt,
    decide,
    forgetting_of,
    interval,
    paired_test,
    power,
)
from tunefork.evaluation.signs import sign_flip

if TYPE_CHECKING:
    from numpy.typing import NDArray

RETRIES = 20
SIZES = pytest.mark.parametrize(
    "n", [pytest.param(100, id="short"), pytest.param(2000, id="full", marks=pytest.mark.soak)]
)
DESIGNS = pytest.mark.parametrize("paraphrases", [1, 4], ids=["single", "clustered"])


@dataclass(frozen=True)
class Answers:
    """Scores of both models, question by question."""

    base: list[float]
    tuned: list[float]
    groups: list[int]

    @property
    def gain(self) -> float:
        return float(np.mean(self.tuned) - np.mean(self.base))


class World:
    """Facts of which each has up to some paraphrases; what models make of them is drawn."""

    def __init__(self, seed: int, paraphrases: int, facts: int = 40) -> None:
        self.generator = np.random.default_rng(seed)
        sizes = self.generator.integers(1, paraphrases + 1, size=facts)
        self.groups = np.repeat(np.arange(facts), sizes)
        self.chance = 0.25 + 0.4 * self.generator.beta(2, 2, size=facts)
        self.base = self._draw(self.chance)

    def _draw(self, chance: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = self.generator.random(len(self.groups)) < chance[self.groups]
        return drawn.astype(np.float64)

    def tuned(self, gain: float) -> Answers:
        """Let a model answer that moved facts up and down by luck, and by `gain` in truth."""
        luck = self.generator.choice([-0.2, 0.2], size=len(self.chance))
        tuned = self._draw(self.chance + luck + gain)
        return Answers(self.base.tolist(), tuned.tolist(), self.groups.tolist())


def ships(answers: Answers, settings: GateSettings, tried: Attempt | None = None) -> bool:
    if answers.gain < settings.min_gain:
        return False  # whatever the interval
    confidence = tried.confidence if tried else settings.confidence
    differences = np.subtract(answers.tuned, answers.base)
    if sign_flip(np.bincount(answers.groups, differences).astype(np.float64), 0) > 1 - confidence:
        return False  # the gate asks for both, and this is quicker to know
    paired = paired_test(answers.base, answers.tuned, answers.groups, confidence)
    return decide(replace(GOOD, paired=paired, attempt=tried), settings).verdict == "ship"


def at_most(share: float, n: int) -> int:
    """Return the largest count that a true share of no more would show by luck, 1 in 1,000."""
    return round(n * share) if n >= 2000 else int(scipy.stats.binom.ppf(0.999, n, share))


@SIZES
@DESIGNS
def test_a_model_that_is_not_better_seldom_ships(n: int, paraphrases: int) -> None:
    shipped = sum(ships(World(seed, paraphrases).tuned(0.0), GateSettings()) for seed in range(n))
    print(f"\nnull, up to {paraphrases} paraphrases: {shipped} of {n} ship")
    assert shipped <= at_most(0.05, n)


@SIZES
@DESIGNS
def test_a_gain_at_the_margin_seldom_ships_where_the_margin_must_be_beaten(
    n: int, paraphrases: int
) -> None:
    gate = GateSettings(min_gain=0.1, superiority="margin")
    shipped = sum(ships(World(seed, paraphrases).tuned(0.1), gate) for seed in range(n))
    print(f"\nmargin, up to {paraphrases} paraphrases: {shipped} of {n} ship")
    assert shipped <= at_most(0.05, n)


@SIZES
def test_twenty_retries_on_the_same_questions_ship_no_more(n: int) -> None:
    gate = GateSettings()
    runs = n if n >= 2000 else 25
    shipped = uncounted = 0
    for seed in range(runs):
        world = World(seed, 4)
        models = [world.tuned(0.0) for _ in range(RETRIES)]
        shipped += any(
            ships(model, gate, attempt(number, gate.confidence))
            for number, model in enumerate(models, 1)
        )
        uncounted += any(ships(model, gate) for model in models)
    print(f"\n{RETRIES} retries: {shipped} of {runs} ship; {uncounted} if none were counted")
    assert shipped <= at_most(0.05, runs)
    assert uncounted > shipped  # the count is what keeps it


@SIZES
def test_forgetting_at_the_margin_seldom_ships(n: int) -> None:
    """About 800 general questions, two points lost in truth, a few of them questions alike."""
    runs = n if n >= 2000 else 40
    shipped = 0
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        groups = np.repeat(np.arange(480), generator.integers(1, 4, size=480))[:800]
        fate = generator.random(480)  # of a group: lost, or won
        base = (generator.random(len(groups)) < 0.9) & (fate >= 0.01)[groups]
        lost = (fate >= 0.01) & (fate < 0.01 + 0.03)
        base |= lost[groups]
        tuned = np.where(lost[groups], False, base) | (fate < 0.01)[groups]
        found = forgetting_of(
            base.astype(float).tolist(), tuned.astype(float).tolist(), groups.tolist()
        )
        shipped += decide(replace(GOOD, forgetting=found), GateSettings()).verdict == "ship"
    print(f"\nforgetting of two points: {shipped} of {runs} ship")
    assert shipped <= at_most(0.05, runs)


@SIZES
@DESIGNS
@pytest.mark.parametrize("facts", [15, 40, 120])
def test_intervals_cover(n: int, paraphrases: int, facts: int) -> None:
    n = n // 2 if n < 2000 else n
    gained = scored = 0
    for seed in range(n):
        world = World(seed, paraphrases, facts)
        answers = world.tuned(0.1)
        found = paired_test(answers.base, answers.tuned, answers.groups, seed=seed)
        gained += found.low <= 0.1 <= found.high
        score = interval(answers.base, answers.groups, seed=seed)
        scored += score.low <= 0.45 <= score.high  # 0.25 + 0.4 times the mean of beta(2, 2)
    print(f"\n{facts} facts, up to {paraphrases}: gain {gained / n:.3f}, score {scored / n:.3f}")
    for covered in (gained, scored):
        assert covered >= scipy.stats.binom.ppf(0.001, n, 0.93)
        assert covered <= scipy.stats.binom.ppf(0.999, n, 0.97)


@SIZES
@pytest.mark.parametrize(("gain", "facts"), [(0.15, 60), (0.1, 200), (0.25, 40)])
def test_the_gate_finds_gains_as_often_as_predicted(n: int, gain: float, facts: int) -> None:
    """Within 5 points: single questions of which 40 % are right for one model only."""
    won, lost = (0.4 + gain) / 2, (0.4 - gain) / 2
    shipped = 0
    for seed in range(n):
        moved = np.random.default_rng(seed).choice([1, -1, 0], p=[won, lost, 0.6], size=facts)
        base, tuned = (moved < 0).astype(float), (moved > 0).astype(float)
        answers = Answers(base.tolist(), tuned.tolist(), list(range(facts)))
        shipped += ships(answers, GateSettings())
    predicted = power(gain, facts, min_gain=0.05)
    print(f"\ngain {gain} on {facts}: {shipped / n:.3f} ship, {predicted:.3f} predicted")
    allowed = 0.05 if n >= 2000 else 0.05 + 3.3 * np.sqrt(predicted * (1 - predicted) / n)
    assert shipped / n == pytest.approx(predicted, abs=allowed)
