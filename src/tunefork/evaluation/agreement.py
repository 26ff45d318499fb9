"""Do people who judged the same things agree, beyond what chance would give?

Labels are names without an order. Entry point: `measure_agreement`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from tunefork.evaluation.statistics import RESAMPLES, Interval, expanded_tail, interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    # Of tables (tables, labels, labels): the agreement observed and that expected by chance.
    Shares = Callable[[Floats], tuple[Floats, Floats]]

Unit = Sequence[str | None]  # what each rater said of one thing, None where nothing
_CHUNK_ELEMENTS = 4_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How far raters agree; each estimate is from -1 to 1, and 0 is what chance gives.

    Attributes:
        units: How many things at least two raters judged.
        share: The share of pairs of raters that agree, averaged over the things.
        kappa: Cohen's, of two raters; None for more, and where all said the same one label,
            which leaves nothing to compare with chance.
        alpha: Krippendorff's; None where all said the same one label.
    """

    units: int
    share: Interval
    kappa: Interval | None
    alpha: Interval | None


def measure_agreement(
    units: Sequence[Unit], confidence: float = 0.95, seed: int = 0
) -> Agreement | None:
    """Measure how far raters agree, with intervals that resample the things that were judged.

    Cohen's kappa ("A Coefficient of Agreement for Nominal Scales", 1960) is (o - e) / (1 - e),
    with o the observed agreement, and e that of raters who draw labels at random, each as often
    as before. Krippendorff's alpha ("Computing Krippendorff's Alpha-Reliability", 2011) is the
    same with one pool of labels for all raters, any number of them, and gaps; labels are nominal.

    Args:
        units: The labels of each thing, one place per rater.
        confidence: Of the intervals.
        seed: Of the resamples.

    Returns:
        None where no thing was judged by two.
    """
    rated = [unit for unit in units if sum(label is not None for label in unit) >= 2]
    if not rated:
        return None
    share = interval([_share(unit) for unit in rated], range(len(rated)), confidence, seed)
    names = sorted({label for unit in rated for label in unit if label is not None})
    kappa = None
    if len(rated[0]) == 2:
        tables = _tables(rated, names, _pair_table)
        kappa = _estimate(tables, _cohen, share, confidence, seed)
    tables = _tables(rated, names, _coincidences)
    return Agreement(
        len(rated), share, kappa, _estimate(tables, _krippendorff, share, confidence, seed)
    )


def _share(unit: Unit) -> float:
    given = [label for label in unit if label is not None]
    pairs = list(combinations(given, 2))
    return sum(one == other for one, other in pairs) / len(pairs)


def _tables(
    units: Sequence[Unit], names: Sequence[str], table: Callable[[Unit, Sequence[str]], Floats]
) -> Floats:
    """Return what each unit adds: (units, labels, labels)."""
    import numpy as np

    return np.stack([table(unit, names) for unit in units])


def _pair_table(unit: Unit, names: Sequence[str]) -> Floats:
    """Return a one at the first rater's label and the second's."""
    import numpy as np

    found = np.zeros((len(names), len(names)))
    found[names.index(str(unit[0])), names.index(str(unit[1]))] = 1
    return found


def _coincidences(unit: Unit, names: Sequence[str]) -> Floats:
    """Count ordered pairs of labels of different raters, divided by the raters less one."""
    import numpy as np

    given = Counter(label for label in unit if label is not None)
    counts = np.array([given[name] for name in names], dtype=np.float64)
    found: Floats = (np.outer(counts, counts) - np.diag(counts)) / (counts.sum() - 1)
    return found


def _cohen(tables: Floats) -> tuple[Floats, Floats]:
    total = tables.sum(axis=(1, 2))
    observed = tables.trace(axis1=1, axis2=2) / total
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
    return observed, expected


def _krippendorff(tables: Floats) -> tuple[Floats, Floats]:
    counts = tables.sum(axis=2)
    total = counts.sum(axis=1)
    observed = tables.trace(axis1=1, axis2=2) / total
    # Without replacement: the same label of the same rater is not met twice.
    expected = (counts * (counts - 1)).sum(axis=1) / (total * (total - 1))
    return observed, expected


def _estimate(
    tables: Floats, shares: Shares, share: Interval, confidence: float, seed: int
) -> Interval | None:
    """Return the agreement beyond chance with its bootstrap interval."""
    import numpy as np

    observed, expected = (float(each[0]) for each in shares(tables.sum(axis=0)[None]))
    if expected >= 1 - _ROUNDING:
        return None
    mean = (observed - expected) / (1 - expected)
    if np.ptp(tables.trace(axis1=1, axis2=2)) > _ROUNDING:
        drawn = np.concatenate(list(_resampled(tables, shares, seed)))
        drawn = drawn[np.isfinite(drawn)]
        tail = expanded_tail(len(tables), confidence)
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(mean, float(low), float(high))
    # All units agree as much: resampling sees no spread, but the share's interval allows for it.
    low, high = ((end - expected) / (1 - expected) for end in (share.low, share.high))
    return Interval(mean, low, high)


def _resampled(tables: Floats, shares: Shares, seed: int) -> list[Floats]:
    """Return the estimate of each resample of units; not finite where it had one label only."""
    import numpy as np

    n = len(tables)
    flat = tables.reshape(n, -1)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // n)
    found = []
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        weights = generator.multinomial(n, np.full(n, 1 / n), size=rows)
        observed, expected = shares((weights @ flat).reshape(rows, *tables.shape[1:]))
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append((observed - expected) / (1 - expected))
    return found


def told_apart(right: int, total: int, confidence: float = 0.95) -> Interval:
    """Return how often something was found among two, with Clopper and Pearson's interval.

    Whoever cannot tell them apart finds it in half of all cases.
    """
    from scipy.stats import binomtest

    found = binomtest(right, total).proportion_ci(confidence, method="exact")
    return Interval(right / total, float(found.low), float(found.high))
