"""A linear classifier on words: what a classifier has to beat to be worth its size.

Logistic regression on tf-idf of words and pairs of neighbouring words: multinomial where a text has
one label, and one of two for each label where it may have several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
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
    target = np.eye(int(labels.max()) + 1)[labels]
    given: NDArray[np.int64] = _linear(texts, target, others, _log_softmax).argmax(axis=1)
    return given


def bag_of_several(
    texts: Sequence[str], has: NDArray[np.float64], others: Sequence[str]
) -> NDArray[np.float64]:
    """Learn which labels texts have, and return the probability of each for others.

    Args:
        texts: What to learn from.
        has: (texts, labels), 1 where a text has a label.
        others: What to label.

    Returns:
        (others, labels).
    """
    # Each label and its absence are two columns beside each other.
    both = np.stack([has, 1 - has], axis=2).reshape(len(has), -1)
    scores = _linear(texts, both, others, _log_sigmoid)
    shares: NDArray[np.float64] = np.exp(_log_sigmoid(scores))[:, 0::2]
    return shares


def _linear(
    texts: Sequence[str],
    target: NDArray[np.float64],
    others: Sequence[str],
    log_shares_of: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Fit a linear map from words to scores, and return those of other texts: (others, columns)."""
    from scipy.optimize import minimize

    counted = [_features(text) for text in texts]
    seen = Counter(feature for features in counted for feature in features)
    kept = sorted(feature for feature, count in seen.items() if count >= _LEAST_TEXTS)
    places = {feature: at for at, feature in enumerate(kept)}
    rarity = np.array([np.log(len(texts) / seen[feature]) + 1 for feature in kept])
    known = _matrix(counted, places, rarity)
    shape = (known.shape[1], target.shape[1])

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        log_shares = log_shares_of(known @ weights)
        slope = known.T @ (np.exp(log_shares) - target) / len(texts) + 2 * _PENALTY * weights
        value = -(target * log_shares).sum() / len(texts) + _PENALTY * (weights**2).sum()
        return float(value), slope.ravel()

    options = {"maxiter": _MOST_STEPS}
    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    unknown = _matrix([_features(text) for text in others], places, rarity)
    scores: NDArray[np.float64] = unknown @ found.x.reshape(shape)
    return scores


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


def _log_sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln of the share of each column against the one beside it, two and two."""
    pairs = scores.reshape(len(scores), -1, 2)
    found: NDArray[np.float64] = pairs - np.logaddexp(pairs[..., :1], pairs[..., 1:])
    return found.reshape(scores.shape)
