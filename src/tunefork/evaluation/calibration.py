"""Calibration: are things that a model calls 80 % likely true in 80 of 100 cases?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability."""

    count: int
    probability: float  # that was claimed, on average
    share: float  # that came true


@dataclass(frozen=True)
class Calibration:
    """The bins that hold anything, by rising probability, and how far claims are off."""

    error: float  # expected calibration error
    bins: tuple[Bin, ...]


def calibration(probabilities: ArrayLike, is_true: ArrayLike) -> Calibration:
    """Return the reliability of some predictions, in bins of equal width.

    Expected calibration error (Naeini et al. 2015): sum over bins of count / n * |probability -
    share|.

    Args:
        probabilities: (n,), from 0 to 1.
        is_true: (n,).
    """
    claimed, came = np.asarray(probabilities, np.float64), np.asarray(is_true, np.float64)
    bin_of = np.minimum((claimed * _BINS).astype(int), _BINS - 1)
    bins = tuple(
        Bin(int(own.sum()), float(claimed[own].mean()), float(came[own].mean()))
        for number in range(_BINS)
        if (own := bin_of == number).any()
    )
    off = sum(each.count * abs(each.probability - each.share) for each in bins)
    return Calibration(off / max(len(claimed), 1), bins)
