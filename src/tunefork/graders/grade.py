"""What every grader is: a frozen, strict set of settings that marks one answer."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

_SHOWN_CHARACTERS = 80
_STRAIGHT_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


@dataclass(frozen=True)
class Grade:
    """The mark of one answer.

    Attributes:
        score: From 0 (wrong) to 1 (right).
        passed: Whether the answer is good enough.
        detail: Why, in a few plain words.
    """

    score: float
    passed: bool
    detail: str


class Grader(BaseModel, ABC):
    """Marks an answer. Unknown settings are errors; the same answer gets the same grade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The setting that a question's reference fills when the grader itself does not give it.
    reference_setting: ClassVar[str | None] = "reference"

    @abstractmethod
    def grade(self, answer: str) -> Grade:
        """Mark one answer; never raises, whatever the answer holds."""

    @abstractmethod
    def describe(self) -> str:
        """Say in plain words what a right answer is."""

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


def pass_or_fail(passed: bool, detail: str) -> Grade:
    """Return full marks or none."""
    return Grade(1.0 if passed else 0.0, passed, detail)


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
