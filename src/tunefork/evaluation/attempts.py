"""Attempts on the same sealed questions, and the error that each of them may spend.

Who tunes again until the questions like the result finds one that was lucky. So the chance of
shipping a model that is not better is shared out over all attempts on the same questions. The
first is judged at the confidence that the gate asks for; attempt k after it has 1 / (k (k - 1)) of
that error. The later shares add up to one (they telescope), and an interval of confidence c errs
upwards with (1 - c) / 2, so that all attempts together, however many and however alike, err with
at most 1 - c. It is Bonferroni's inequality with unequal shares, known as alpha spending (Lan and
DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70, 1983; for tests without
an end: Foster and Stine, "Alpha-investing", JRSS B 70, 2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunefork.core.hashing import hash_json
from tunefork.evaluation.golden import GoldenQuestion


@dataclass(frozen=True)
class Attempt:
    """Which attempt on the same sealed questions a verdict is, and the confidence it uses."""

    number: int
    confidence: float


def attempt(number: int, confidence: float) -> Attempt:
    """Return the confidence that an attempt is judged at.

    Args:
        number: Which attempt it is, from 1.
        confidence: What the gate asks for, from 0 to 1.
    """
    assert number >= 1, "attempts are counted from 1"
    share = 1.0 if number == 1 else 1 / (number * (number - 1))
    return Attempt(number, 1 - (1 - confidence) * share)


def question_hashes(golden: Iterable[GoldenQuestion]) -> list[str]:
    """Return what sealed questions are known by: what is asked, whatever grades it."""
    return sorted({hash_json(list(question.messages)) for question in golden})


def answers_hash(answers: Sequence[str], picks: Sequence[bool]) -> str:
    """Return what a model's evidence is known by: the same answers again are no new attempt.

    Args:
        answers: What it said to the golden questions.
        picks: Which of the general questions it had right.
    """
    return hash_json([list(answers), [bool(pick) for pick in picks]])
