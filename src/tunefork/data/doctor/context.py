"""What a check may look at: the rows, what they are compared with, and what is worked out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tunefork.data.doctor.near import Pair, near_pairs
from tunefork.data.doctor.rows import Row, Rows

_LABEL_WORDS, _LABEL_LETTERS = 5, 48
_MOST_LABELS = 300
_ROWS_PER_LABEL = 3


@dataclass(frozen=True)
class Tokens:
    """What the base makes of the rows.

    Attributes:
        base: Its name.
        limit: The longest row it takes.
        lengths: Tokens of each row, by row number.
        refused: Why the chat template does not take a row, by row number.
    """

    base: str
    limit: int
    lengths: dict[int, int]
    refused: dict[int, str]


@dataclass(frozen=True)
class Context:
    """The rows of one file and all that they are held against."""

    read: Rows
    validation: Sequence[Row] = ()
    golden: Sequence[str] = ()  # questions
    against: Sequence[str] = ()  # what users really ask
    tokens: Tokens | None = None

    @property
    def rows(self) -> list[Row]:
        """The rows that can be read."""
        return self.read.rows

    @cached_property
    def labels(self) -> Counter[str]:
        """How often each label occurs, where the answers are labels; else nothing."""
        if not all(row.kind in ("chat", "labelled") for row in self.rows):
            return Counter()
        answers = Counter(row.answer.strip() for row in self.rows)
        is_short = all(
            len(answer) <= _LABEL_LETTERS and len(answer.split()) <= _LABEL_WORDS
            for answer in answers
        )
        n_labels = len(answers)
        is_few = 2 <= n_labels <= _MOST_LABELS and n_labels * _ROWS_PER_LABEL <= len(self.rows)
        return answers if is_short and is_few else Counter()

    @cached_property
    def near(self) -> list[Pair]:
        """Pairs of rows that are nearly the same, and not the same."""
        return near_pairs(self.rows)
