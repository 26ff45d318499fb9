"""The `similarity` grader: how much of a reference an answer says, in the same order."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from tunefork.graders.grade import Grade, Grader, comparable, shown
from tunefork.graders.text import Text

# Chinese and Japanese put no spaces between words: there each character counts as one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class Similarity(Grader):
    """The answer's words overlap with the reference's: the score is ROUGE-L's F1.

    With L the length of the longest common subsequence of words, precision L / |answer|,
    recall L / |reference|, and the score is their harmonic mean, 2 L / (|answer| +
    |reference|). Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. Case
    and punctuation do not count. Passed from `minimum` on.
    """

    type: Literal["similarity"] = "similarity"
    reference: Text
    minimum: Annotated[float, Field(gt=0, le=1)] = 0.5

    def grade(self, answer: str) -> Grade:
        """Compare the words."""
        score = rouge_l(answer, self.reference)
        return Grade(score, score >= self.minimum, f"similarity {score:.2f} of {self.minimum:g}")

    def describe(self) -> str:
        """Name the reference and the minimum."""
        return f"is similar to {shown(self.reference)} (at least {self.minimum:g})"


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L's F1 of two texts, from 0 to 1."""
    given, wanted = words(answer), words(reference)
    if not given and not wanted:  # nothing but punctuation: all there is to compare
        return 1.0 if answer.strip() == reference.strip() else 0.0
    return 2 * common_length(given, wanted) / (len(given) + len(wanted))


def words(text: str) -> list[str]:
    """Return a text's words, case folded, without punctuation."""
    return _WORD.findall(comparable(text))


def common_length(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence.

    One bit per word of `first`, one addition per word of `second`: Hyyrö, "Bit-parallel LCS-
    length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for index, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        here = row & places.get(word, 0)
        row = ((row + here) | (row - here)) & full
    return len(first) - row.bit_count()
