"""Overfitting as such: where held-out loss turned, and how much was learned by heart. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_LEAST_RISE = 0.01  # of the lowest loss: below, the curve is level
_SHORT_WORDS = 4  # a shared run of so few words says nothing
_EXAMPLE_LETTERS = 240


@dataclass(frozen=True)
class Turn:
    """Held-out loss fell, and then rose again: from there on a run only learned its rows.

    Attributes:
        best_step: Where it was lowest.
        best_loss: In nats per token.
        last_step: The last step measured.
        last_loss: The loss there.
        training_fell: Whether the loss on the training rows still fell meanwhile; None where
            there are too few points to say.
    """

    best_step: int
    best_loss: float
    last_step: int
    last_loss: float
    training_fell: bool | None

    @property
    def rise(self) -> float:
        """How much the loss rose, as a share of the lowest."""
        return (self.last_loss - self.best_loss) / self.best_loss


@dataclass(frozen=True)
class Memorised:
    """Training rows whose answer a model gives word for word from their prompt alone.

    Attributes:
        rows: How many were asked, a sample.
        exact: How many of them came back whole.
        longest_words: The longest run of words that any answer shares with its row.
        longest_share: That run as a share of the words of its row's answer.
        example: The words of that run, cut to a line.
    """

    rows: int
    exact: int
    longest_words: int
    longest_share: float
    example: str

    @property
    def share(self) -> float:
        """The share of the rows that came back whole."""
        return self.exact / self.rows

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "share": self.share}


def find_turn(
    training: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]]
) -> Turn | None:
    """Return where held-out loss turned; None where it did not rise by a hundredth or more."""
    points = [(step, loss) for step, loss in validation if math.isfinite(loss)]
    if not points:
        return None
    best_step, best_loss = min(points, key=lambda point: point[1])
    last_step, last_loss = points[-1]
    if best_loss <= 0 or last_loss < best_loss * (1 + _LEAST_RISE):
        return None
    return Turn(best_step, best_loss, last_step, last_loss, _fell(training, best_step))


def find_memorised(answers: Sequence[tuple[str, str]]) -> Memorised | None:
    """Compare what a model answered with its training rows.

    Args:
        answers: (what it said, what the row says) of each row asked; None comes of none.
    """
    if not answers:
        return None
    pairs = [(said.split(), expected.split()) for said, expected in answers]
    runs = [(_shared_run(said, expected), expected) for said, expected in pairs]
    longest, of = max(runs, key=lambda run: len(run[0]))
    is_telling = len(longest) > _SHORT_WORDS
    return Memorised(
        rows=len(pairs),
        exact=sum(said == expected for said, expected in pairs),
        longest_words=len(longest),
        longest_share=len(longest) / max(1, len(of)),
        example=_clipped(" ".join(longest)) if is_telling else "",
    )


def _fell(training: Sequence[tuple[int, float]], step: int) -> bool | None:
    """Say whether training loss after a step lies below what it was around it."""
    points = [point for point in training if math.isfinite(point[1])]
    after = [loss for at, loss in points if at > step]
    around = [loss for at, loss in points if at <= step][-max(3, len(after) // 2) :]
    if len(after) < 3 or len(around) < 3:
        return None
    late = after[len(after) // 2 :]
    return math.fsum(late) / len(late) < math.fsum(around) / len(around)


def _shared_run(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the longest run of words that stands in both."""
    lengths = [0] * (len(second) + 1)
    end, best = 0, 0
    for at, word in enumerate(first, start=1):
        above = 0
        for place, other in enumerate(second, start=1):
            above, lengths[place] = lengths[place], above + 1 if word == other else 0
            if lengths[place] > best:
                end, best = at, lengths[place]
    return list(first[end - best : end])


def _clipped(text: str) -> str:
    return text if len(text) <= _EXAMPLE_LETTERS else text[: _EXAMPLE_LETTERS - 1].rstrip() + "…"
