"""A linear classifier on words: what a classifier has to beat to be worth its size.

Multinomial logistic regression on tf-idf of words and pairs of neighbouring words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_PENALTY = 1e-4  # of the squared weights, per text
_MOST_STEPS = 100
_LEAST_TEXTS = 2  # that a feature stands in


def bag_of_words(
    texts: Sequence[str], labels: NDArray[np.int64], others: Sequence[str]
) -> NDArray[np.int64]:
    """Learn labels from some texts, and return those of others: (others,).

    Args:
        texts: What to learn from.
        labels: (texts,), numbers from 0.
        others: What to label.
    """
    from scipy.optimize import minimize

    counted = [_features(text) for text in texts]
    seen = Counter(feature for features in counted for feature in features)
    kept = sorted(feature for feature, count in seen.items() if count >= _LEAST_TEXTS)
    places = {feature: at for at, feature in enumerate(kept)}
    rarity = np.array([np.log(len(texts) / seen[feature]) + 1 for feature in kept])
    known = _matrix(counted, places, rarity)
    n_labels, n_columns = int(labels.max()) + 1, known.shape[1]
    target = np.eye(n_labels)[labels]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(n_columns, n_labels)
        log_shares = _log_softmax(known @ weights)
        slope = known.T @ (np.exp(log_shares) - target) / len(texts) + 2 * _PENALTY * weights
        value = -(target * log_shares).sum() / len(texts) + _PENALTY * (weights**2).sum()
        return float(value), slope.ravel()

    start = np.zeros(n_columns * n_labels)
    options = {"maxiter": _MOST_STEPS}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    unknown = _matrix([_features(text) for text in others], places, rarity)
    given: NDArray[np.int64] = (unknown @ found.x.reshape(n_columns, n_labels)).argmax(axis=1)
    return given


def _features(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter([*words, *(" ".join(pair) for pair in pairwise(words))])


def _matrix(
    counted: Sequence[Counter[str]], places: dict[str, int], rarity: NDArray[np.float64]
) -> Any:
    """Return texts as rows of unit length, with a last column of ones: (texts, features + 1)."""
    from scipy.sparse import csr_array

    columns, values, ends = [], [], [0]
    for features in counted:
        own = [places[feature] for feature in features if feature in places]
        row = np.array([features[each] for each in features if each in places]) * rarity[own]
        values += [*(row / max(float(np.linalg.norm(row)), 1e-12)).tolist(), 1.0]
        columns += [*own, len(places)]
        ends.append(len(columns))
    return csr_array((values, columns, ends), shape=(len(counted), len(places) + 1))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = logits - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
    return found
