"""From how likely each of several labels is to those that are given: one threshold per label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_USUAL = 0.5
_LEAST_TEXTS = 5  # that have a label, and as many that have not: fewer say nothing of a threshold
_FOLDS = 2

Shares = NDArray[np.float64]  # (texts, labels), from 0 to 1
Has = NDArray[np.bool_]  # (texts, labels): whether the text has the label


def best_thresholds(shares: Shares, has: Has) -> NDArray[np.float64]:
    """Return for each label the least probability at which to give it: (labels,).

    That of the highest F1 on these texts; of several such the nearest to 0.5, and 0.5 itself where
    too few texts have the label, or too few have not.
    """
    found = [_best(shares[:, label], has[:, label]) for label in range(shares.shape[1])]
    return np.array(found, np.float64)


def cross_fitted(shares: Shares, has: Has) -> Has:
    """Return which labels are given where each half's thresholds come from the other half.

    Judged by the texts that they were chosen on, thresholds would flatter.
    """
    fold = np.arange(len(shares)) % _FOLDS
    given = np.zeros(shares.shape, bool)
    for number in range(_FOLDS):
        own = fold == number
        given[own] = shares[own] >= best_thresholds(shares[~own], has[~own])
    return given


def _best(shares: NDArray[np.float64], has: NDArray[np.bool_]) -> float:
    n_have = int(has.sum())
    if min(n_have, len(has) - n_have) < _LEAST_TEXTS:
        return _USUAL
    order = np.argsort(-shares, kind="stable")
    ranked, right = shares[order], np.cumsum(has[order])
    # F1 where the first k are given: 2 right / (k + n_have), at the last of equal shares.
    f1 = 2 * right / (np.arange(1, len(has) + 1) + n_have)
    is_cut = np.append(ranked[:-1] > ranked[1:], True)
    following = np.append(ranked[1:], 0.0)
    cuts = (ranked + following)[is_cut] / 2  # half way to the next, which is not given
    best = np.flatnonzero(f1[is_cut] >= f1[is_cut].max() - 1e-12)
    return float(min(cuts[best], key=lambda cut: abs(cut - _USUAL)))
