"""Is the tuned model better, or was it luck? Intervals and tests that respect groups.

Paraphrases of one fact are answered alike, so questions of one group are not independent:
everything here resamples or flips whole groups. Single questions that are right or wrong have
intervals of their own (see `shares`). Same input and seed, same result.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tunefork.evaluation.shares import tango, wilson
from tunefork.evaluation.signs import sign_flip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
_LARGEST_Z = 2.9  # 19 of 10,000 resamples lie beyond: fewer lie too unsteadily
_CHUNK_ELEMENTS = 4_000_000  # bounds the memory of a block of resamples: 32 MB
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A mean score with its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedResult:
    """The same questions answered by two models.

    Attributes:
        gain: Mean score of the tuned model minus that of the base.
        low: Lower end of the gain's confidence interval.
        high: Its upper end.
        p_value: Two-sided, for the hypothesis that tuning changed nothing.
        questions: How many questions were answered.
        groups: How many groups they form.
    """

    gain: float
    low: float
    high: float
    p_value: float
    questions: int
    groups: int


@dataclass(frozen=True)
class LossResult:
    """Held-out loss of two models on the same rows, in nats per token.

    `drop` is base minus tuned, positive where tuning helped; `low` and `high` are its interval.
    """

    base: float
    tuned: float
    drop: float
    low: float
    high: float
    p_value: float
    rows: int


def interval(
    scores: Sequence[float],
    groups: Sequence[Hashable],
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of scores from 0 to 1 with its interval.

    For single questions that are right or wrong it is Wilson's, otherwise a cluster bootstrap.
    Whole groups are drawn with replacement, 10,000 times (Davison and Hinkley, "Bootstrap
    Methods and their Application", 1997, section 3.8). The percentiles are those of the
    expanded percentile interval, which allows for few groups (Hesterberg, "What Teachers
    Should Know About the Bootstrap", 2015, section 4.3.3). Where all groups score the same,
    resampling sees no spread; then the interval is that of `_without_spread`, which for all
    right or all wrong is Wilson's with groups as trials.
    """
    sums, sizes = by_group(scores, groups)
    if _are_single(sums, sizes):
        low, high = wilson(round(sums.sum()), len(sums), confidence)
    else:
        low, high = _bootstrap(sums, sizes, confidence, seed, bounds=(0.0, 1.0))
    return Interval(_mean(sums, sizes), low, high)


def paired_test(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[Hashable],
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedResult:
    """Compare two models on the same questions.

    Where single questions are right or wrong, the gain's interval is Tango's and the p-value that
    of McNemar's exact test; otherwise the cluster bootstrap of `interval`, and the two-sided
    sign-flip permutation test of groups (see `signs`).
    """
    differences = [b - a for a, b in zip(base, tuned, strict=True)]
    sums, sizes = by_group(differences, groups)
    if _are_single(sums, sizes):
        won, lost = int((sums > 0.5).sum()), int((sums < -0.5).sum())
        low, high = tango(won, lost, len(sums), confidence)
    else:
        low, high = _bootstrap(sums, sizes, confidence, seed, bounds=(-1.0, 1.0))
    return PairedResult(
        gain=_mean(sums, sizes),
        low=low,
        high=high,
        p_value=sign_flip(sums, seed),
        questions=len(differences),
        groups=len(sums),
    )


def questions_needed(
    paired: PairedResult, min_gain: float = 0.0, confidence: float = 0.95, *, line: float = 0.0
) -> int | None:
    """Return about how many more groups would settle whether the tuned model is better.

    Settled means: a gain of at least `min_gain` has its interval above `line`, or a smaller one
    has its interval below `min_gain`. Reckons that gain and spread stay as they are, so that
    the interval narrows with the square root of the number of groups. At least 1; None where
    the gain lies on the line itself, which no number of questions can settle.
    """
    if paired.gain >= min_gain - _ROUNDING:
        distance, half_width = paired.gain - line, paired.gain - paired.low
        # Fewer groups cannot reach the level even when all of them agree; where only a share of
        # them gains, as large a multiple is needed.
        agreeing = math.ceil(math.log2(2 / (1 - confidence)))
        fewest = math.ceil(agreeing / max(min(paired.gain, 1.0), _ROUNDING))
    else:
        distance, half_width, fewest = min_gain - paired.gain, paired.high - paired.gain, 1
    if distance <= _ROUNDING:
        return None
    wanted = paired.groups * (half_width / distance) ** 2
    return max(1, math.ceil(wanted) - paired.groups, fewest - paired.groups)


def mean_loss_test(
    base_losses: Sequence[float],
    tuned_losses: Sequence[float],
    weights: Sequence[float],
    confidence: float = 0.95,
    seed: int = 0,
) -> LossResult:
    """Compare held-out losses row by row: interval and p-value as in `paired_test`.

    Args:
        base_losses: Mean loss of each row under the base, in nats per token.
        tuned_losses: The same under the tuned model.
        weights: Trained tokens of each row; the means are over tokens.
        confidence: Of the interval, from 0 to 1.
        seed: Of the resamples.
    """
    import numpy as np

    sizes = np.asarray(weights, dtype=np.float64)
    trained = sizes > 0
    assert trained.any(), "there is nothing to average"
    base = (np.asarray(base_losses) * sizes)[trained]
    tuned = (np.asarray(tuned_losses) * sizes)[trained]
    sizes = sizes[trained]
    low, high = _bootstrap(base - tuned, sizes, confidence, seed, bounds=(-math.inf, math.inf))
    return LossResult(
        base=_mean(base, sizes),
        tuned=_mean(tuned, sizes),
        drop=_mean(base - tuned, sizes),
        low=low,
        high=high,
        p_value=sign_flip(base - tuned, seed),
        rows=len(sizes),
    )


def by_group(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Return each group's sum, and its number of questions."""
    import numpy as np

    assert values, "there is nothing to average"
    places: dict[Hashable, int] = {}
    for group in groups:
        places.setdefault(group, len(places))
    index = [places[group] for _, group in zip(values, groups, strict=True)]
    sums = np.bincount(index, weights=np.asarray(values, dtype=np.float64))
    return sums.astype(np.float64), np.bincount(index).astype(np.float64)


def _are_single(sums: Floats, sizes: Floats) -> bool:
    """Say whether each group is one question, and each right or wrong."""
    return bool((sizes == 1).all() and (abs(sums - sums.round()) <= _ROUNDING).all())


def _mean(sums: Floats, sizes: Floats) -> float:
    return float(sums.sum() / sizes.sum())


def _bootstrap(
    sums: Floats, sizes: Floats, confidence: float, seed: int, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the expanded percentile interval of the mean over resampled groups."""
    import numpy as np

    n = len(sums)
    means = sums / sizes
    if np.ptp(means) <= _ROUNDING:
        return _without_spread(float(means[0]), n, confidence, bounds)
    found = _resampled(sums, sizes, np.random.default_rng(seed))
    z = _expanded_z(n, confidence)
    resolved = min(z, _LARGEST_Z)
    tail = NormalDist().cdf(-resolved)
    mean = _mean(sums, sizes)
    # Beyond what the resamples resolve, the ends move out as a normal distribution's do.
    ends = np.quantile(found, [tail, 1 - tail])
    low, high = (mean + z / resolved * (float(end) - mean) for end in ends)
    return max(low, bounds[0]), min(high, bounds[1])


def _resampled(sums: Floats, sizes: Floats, generator: np.random.Generator) -> Floats:
    """Return the means of resampled groups."""
    import numpy as np

    n = len(sums)
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    if 2 * len(kinds) <= n:  # groups alike are drawn together: how many of each kind
        drawn = generator.multinomial(n, counts / n, size=RESAMPLES)
        totals: Floats = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
        return totals
    found = np.empty(RESAMPLES)
    step = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = generator.integers(0, n, size=(rows, n), dtype=np.int32)
        found[start : start + rows] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return found


def expanded_tail(n: int, confidence: float) -> float:
    """Return the share of resamples to leave out on each side, for `n` > 1 groups."""
    return NormalDist().cdf(-_expanded_z(n, confidence))


def _expanded_z(n: int, confidence: float) -> float:
    """Return how many standard deviations the ends lie out, for `n` > 1 groups.

    Wider than a normal distribution's as Student's t is, with n - 1 degrees of freedom, and by
    sqrt(n / (n - 1)), since resamples vary around the sample and not around the truth.
    """
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(n / (n - 1))


def _without_spread(
    value: float, n: int, confidence: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval where all `n` groups have the same mean.

    A share of groups that was not met in n may still be up to z² / (n + z²), Wilson's upper
    bound at zero of n; the ends are the means if that share lay at a bound of the scale.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    unseen = z * z / (n + z * z)
    low, high = (value + unseen * (bound - value) for bound in bounds)
    return low, high
