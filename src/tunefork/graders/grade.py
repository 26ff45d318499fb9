"""What every grader is: a frozen, strict set of settings that marks one answer."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

Values = TypeVar("Values", bound=Sized)

_SHOWN_CHARACTERS = 80
_STRAIGHT_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")

# OpenAI's names, as its grader endpoint reports them.
ErrorKind = Literal[
    "formula_parse_error",
    "invalid_variable_error",
    "model_grader_parse_error",
    "model_grader_refusal_error",
    "model_grader_server_error",
    "other_error",
    "python_grader_runtime_error",
    "python_grader_server_error",
    "sample_parse_error",
]


@dataclass(frozen=True)
class Failure:
    """Why there is nothing to mark by: the kind, and what happened in plain words."""

    kind: ErrorKind
    message: str


@dataclass(frozen=True)
class Grade:
    """The mark of one answer.

    Attributes:
        score: From 0 (wrong) to 1 (right).
        passed: Whether the answer is good enough.
        detail: Why, in a few plain words.
        error: Set where the grader itself failed: the score is then 0 and says nothing about
            the answer.
        is_pending: A person has to mark it; the score is 0 until then.
        value: What the grader returned in its own unit, where that is not the score: 7 of a
            range from 1 to 10, or a formula's 1.3.
        parts: The value of each grader that `multi` combined.
    """

    score: float
    passed: bool
    detail: str
    error: ErrorKind | None = None
    is_pending: bool = False
    value: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def reward(self) -> float:
        """The value in the grader's own unit: what formulas and reinforcement see."""
        return self.score if self.value is None else self.value


class Grader(BaseModel, ABC):
    """Marks an answer. Unknown settings are errors; the same answer gets the same grade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The setting that a question's reference fills when the grader itself does not give it.
    reference_setting: ClassVar[str | None] = "reference"

    # Whether marks depend on more of the question than its reference.
    uses_item: ClassVar[bool] = False
    # What is known of the question: `reference`, `chunks`, and the row's own fields.
    _item: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Keep what the parser knows of the question, which it hands over as context."""
        if context and self.uses_item:
            self._item = dict(context["item"])

    @abstractmethod
    def grade(self, answer: str) -> Grade:
        """Mark one answer; never raises, whatever the answer holds."""

    @abstractmethod
    def describe(self) -> str:
        """Say in plain words what a right answer is."""

    def with_item(self, item: Mapping[str, Any]) -> Self:
        """Return this grader for a question of which more is known: the chunks it was given."""
        known = self.model_copy()
        if self.uses_item:
            known._item = {**self._item, **item}
        return known

    def templates(self) -> tuple[str, ...]:
        """Return the texts in which `{{item.…}}` may stand."""
        return ()

    @classmethod
    def needs_reference(cls, settings: dict[str, Any]) -> bool:
        """Say whether settings leave it to the question's reference what to compare with."""
        return cls.reference_setting is not None and cls.reference_setting not in settings

    @classmethod
    def with_reference(cls, settings: dict[str, Any], reference: str) -> dict[str, Any]:
        """Return the settings, completed by the question's reference where they lack it."""
        if cls.reference_setting is None or not cls.needs_reference(settings):
            return settings
        return {**settings, cls.reference_setting: reference}


def not_empty(values: Values) -> Values:
    """Return the values.

    Raises:
        ValueError: There are none.
    """
    if not len(values):
        raise ValueError("must not be empty")
    return values


def pass_or_fail(passed: bool, detail: str) -> Grade:
    """Return full marks or none."""
    return Grade(1.0 if passed else 0.0, passed, detail)


def share(n_right: int, n_all: int, minimum: float, detail: str) -> Grade:
    """Return the mark of `n_right` of `n_all`, passed from `minimum` on."""
    score = n_right / n_all
    return Grade(score, score >= minimum, detail)


def failed(failure: Failure) -> Grade:
    """Return the mark of an answer that could not be marked."""
    return Grade(0.0, False, f"not graded: {failure.message}", error=failure.kind)


def comparable(text: str) -> str:
    """Return a text without the differences that no reader sees as such.

    Letters are composed (Unicode NFC), curly quotes are straight and case is folded.
    """
    return unicodedata.normalize("NFC", text).translate(_STRAIGHT_QUOTES).casefold()


def shown(text: str) -> str:
    """Return a value in back-ticks, on one line, shortened for a message."""
    line = " ".join(text.split())
    if len(line) > _SHOWN_CHARACTERS:
        line = line[: _SHOWN_CHARACTERS - 1] + "…"
    return f"`{line}`"
