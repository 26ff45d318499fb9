"""Agreement of raters: published values, a slow reference, and what the intervals promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tunefork.evaluation.agreement import Unit, measure_agreement


def test_kappa_of_a_known_table() -> None:
    """Observed 0.7, expected 0.5 by hand."""
    counts = {("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}
    found = measure_agreement([pair for pair, n in counts.items() for _ in range(n)])
    assert found is not None
    assert found.kappa is not None
    assert found.units == 50
    assert found.share.mean == pytest.approx(0.7)
    assert found.kappa.mean == pytest.approx(0.4)
    # The large-sample standard error of kappa here is sqrt(0.7 * 0.3 / 50) / 0.5 = 0.13.
    assert found.kappa.low == pytest.approx(0.4 - 1.96 * 0.13, abs=0.05)
    assert found.kappa.high == pytest.approx(0.4 + 1.96 * 0.13, abs=0.05)


def test_alpha_of_the_published_example() -> None:
    """Four raters, twelve units, gaps: 0.743 in Krippendorff's paper of 2011."""
    raters = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units: list[Unit] = [
        [None if label == "." else label for label in unit] for unit in zip(*raters, strict=True)
    ]
    found = measure_agreement(units)
    assert found is not None
    assert found.kappa is None
    assert found.alpha is not None
    assert found.units == 11  # one was judged by a single rater
    assert found.alpha.mean == pytest.approx(0.743, abs=5e-4)
    assert found.alpha.low < 0.743 < found.alpha.high


def _slow_alpha(units: list[Unit]) -> float:
    """Compare every value with every other one, as the definition says."""
    rated = [[label for label in unit if label is not None] for unit in units]
    rated = [unit for unit in rated if len(unit) >= 2]
    everything = [label for unit in rated for label in unit]
    n = len(everything)
    within = sum(
        sum(one != other for one, other in itertools.permutations(unit, 2)) / (len(unit) - 1)
        for unit in rated
    )
    across = sum(one != other for one, other in itertools.permutations(everything, 2))
    return float(1 - (within / n) / (across / (n * (n - 1))))


@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    units: list[Unit] = [
        [str(label) if label < 4 else None for label in random.integers(0, 6, 2 + seed)]
        for _ in range(25)
    ]
    found = measure_agreement(units)
    assert found is not None
    assert found.alpha is not None
    assert found.alpha.mean == pytest.approx(_slow_alpha(units), abs=1e-12)
    if seed:
        assert found.kappa is None


def test_chance_gives_about_zero() -> None:
    random = np.random.default_rng(0)
    found = measure_agreement([[str(a), str(b)] for a, b in random.integers(0, 3, (600, 2))])
    assert found is not None
    for estimate in (found.kappa, found.alpha):
        assert estimate is not None
        assert estimate.low < 0 < estimate.high
        assert abs(estimate.mean) < 0.1
    assert found.share.mean == pytest.approx(1 / 3, abs=0.06)


def test_full_agreement_on_few_is_no_proof() -> None:
    found = measure_agreement([["a", "a"], ["b", "b"], ["a", "a"], ["b", "b"]])
    assert found is not None
    assert found.kappa is not None
    assert found.kappa.mean == found.kappa.high == 1
    assert found.kappa.low < 0.5


def test_what_cannot_be_told_is_none() -> None:
    assert measure_agreement([]) is None
    assert measure_agreement([["a", None], [None, "b"]]) is None
    found = measure_agreement([["a", "a"], ["a", "a"]])
    assert found is not None
    assert (found.share.mean, found.kappa, found.alpha) == (1, None, None)
