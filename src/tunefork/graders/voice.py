"""The `voice` grader: does the answer sound like its owner rather than like others?

Authorship by character n-grams, the most robust single feature for it (Stamatatos, "A Survey of
Modern Authorship Attribution Methods", 2009): of 2 to 4 characters, hashed, damped by the root,
in unit length, under ridge regression. How well it tells held-out texts apart is known before
it judges anything: each text is also scored by the classifier that never saw it.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tunefork.graders.grade import Grade, Grader
from tunefork.graders.text import Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIZES = (2, 3, 4)
_N_BUCKETS = 1 << 13
_RIDGE = 0.1
_READ_CHARACTERS = 2_000
_LEAST_TEXTS, _MOST_TEXTS = 10, 1_000
# Below this, owner and others are too alike for the mark to mean anything.
_LEAST_ACCURACY = 0.7


@dataclass(frozen=True)
class VoiceModel:
    """A classifier of one owner's texts against others'.

    Attributes:
        weights: (buckets,), float64.
        slope: Turns a decision value into log odds, with `middle`.
        middle: The decision value that is equally likely from both.
        accuracy: Balanced accuracy on held-out texts, from 0 to 1; 0.5 is chance.
    """

    weights: NDArray[np.float64]
    slope: float
    middle: float
    accuracy: float

    def probability(self, text: str) -> float:
        """Return how likely the owner wrote a text, if both are equally likely beforehand."""
        odds = self.slope * (self.decision(text) - self.middle)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, odds))))

    def decision(self, text: str) -> float:
        """Return the classifier's value: near 1 for the owner's texts, near -1 for others'."""
        return float(_features([text])[0] @ self.weights)


def fit_voice(owner: Sequence[str], others: Sequence[str]) -> VoiceModel:
    """Learn to tell the owner's texts from others', with leave-one-out validation.

    With K = X X', the ridge solution is w = X' a, a = (K + c I)^-1 y, and the prediction for
    text i by the classifier without it is y_i - a_i / ((K + c I)^-1)_ii (Rifkin and Lippert,
    "Notes on Regularized Least-Squares", 2007). Two normal distributions of equal variance,
    fitted to these held-out values, turn them into probabilities.

    Raises:
        ValueError: Fewer than 10 texts of either, or more than 1,000.
    """
    import numpy as np  # loading it would slow down every command that only parses graders

    # A text that comes twice would be recognised by its own copy.
    owner, others = list(dict.fromkeys(owner)), list(dict.fromkeys(others))
    for texts, name in ((owner, "owner"), (others, "others")):
        if not _LEAST_TEXTS <= len(texts) <= _MOST_TEXTS:
            raise ValueError(
                f"`{name}` has {len(texts)} different texts; "
                f"between {_LEAST_TEXTS} and {_MOST_TEXTS} are needed"
            )
    features = _features([*owner, *others])  # (texts, buckets)
    wanted = np.array([1.0] * len(owner) + [-1.0] * len(others))
    inverse = np.linalg.inv(features @ features.T + _RIDGE * np.eye(len(wanted)))
    dual = inverse @ wanted
    held_out = wanted - dual / np.diag(inverse)
    ours, theirs = held_out[: len(owner)], held_out[len(owner) :]
    variance = (ours.var() + theirs.var()) / 2 + 1e-9
    middle = float(ours.mean() + theirs.mean()) / 2
    accuracy = float((ours > middle).mean() + (theirs < middle).mean()) / 2
    slope = max(0.0, float((ours.mean() - theirs.mean()) / variance))
    return VoiceModel(features.T @ dual, slope, middle, accuracy)


class Voice(Grader):
    """The answer sounds like texts of its owner, not like those of others.

    The score is the probability of the owner by `fit_voice`. Texts that cannot be told apart
    (held-out accuracy below 70 %) are refused: the mark would be noise.
    """

    type: Literal["voice"] = "voice"
    owner: tuple[Text, ...]
    others: tuple[Text, ...]
    minimum: Annotated[float, Field(gt=0, lt=1)] = 0.5
    reference_setting = None

    @model_validator(mode="after")
    def _can_tell(self) -> Voice:
        accuracy = _fitted(self.owner, self.others).accuracy
        if accuracy < _LEAST_ACCURACY:
            raise ValueError(
                f"the owner's texts cannot be told from the others': {accuracy:.0%} of held-out "
                f"texts are recognised, {_LEAST_ACCURACY:.0%} are needed; give more or longer texts"
            )
        return self

    def grade(self, answer: str) -> Grade:
        """Return how likely the owner wrote it."""
        model = _fitted(self.owner, self.others)
        score = model.probability(answer)
        sure = f"the classifier is right on {model.accuracy:.0%} of held-out texts"
        return Grade(score, score >= self.minimum, f"{score:.0%} the owner's voice; {sure}")

    def describe(self) -> str:
        """Name the texts."""
        of_others = f"{len(self.others)} of others"
        return f"sounds like {len(self.owner)} texts of the owner rather than {of_others}"


@lru_cache(maxsize=4)
def _fitted(owner: tuple[str, ...], others: tuple[str, ...]) -> VoiceModel:
    return fit_voice(owner, others)


def _features(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return (texts, buckets): the root of each n-gram's count, rows of unit length."""
    import numpy as np

    features = np.zeros((len(texts), _N_BUCKETS))
    for row, text in zip(features, texts, strict=True):
        line = f" {' '.join(text[:_READ_CHARACTERS].split())} "
        grams = Counter(line[i : i + n] for n in _SIZES for i in range(len(line) - n + 1))
        for gram, count in grams.items():
            row[zlib.crc32(gram.encode("utf-8", "surrogatepass")) % _N_BUCKETS] += math.sqrt(count)
        row /= float(np.linalg.norm(row)) or 1.0
    return features
