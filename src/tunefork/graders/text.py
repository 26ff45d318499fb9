"""Graders that look for given text: `exact`, `contains`, `regex`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import StringConstraints, field_validator, model_validator

from tunefork.graders.grade import Failure, Grade, Grader, comparable, failed, pass_or_fail, shown
from tunefork.graders.patterns import Pattern, SlowPatternError, search

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Exact(Grader):
    """The answer is the reference, white space around both aside."""

    type: Literal["exact"] = "exact"
    reference: Text
    ignore_case: bool = False

    def grade(self, answer: str) -> Grade:
        """Compare the whole answer."""
        given, wanted = answer.strip(), self.reference
        if self.ignore_case:
            given, wanted = given.casefold(), wanted.casefold()
        if given == wanted:
            return pass_or_fail(True, f"is {shown(self.reference)}")
        return pass_or_fail(False, f"is not {shown(self.reference)}")

    def describe(self) -> str:
        """Name the one right answer."""
        case = ", in any case" if self.ignore_case else ""
        return f"is exactly {shown(self.reference)}{case}"


class Contains(Grader):
    """The answer has at least one of `any` and each of `all`, in any case, as whole words.

    `art` is not found in `cart`, nor `12` in `312` or `12.5`. White space between words may
    differ.
    """

    type: Literal["contains"] = "contains"
    any: tuple[Text, ...] = ()
    all: tuple[Text, ...] = ()
    reference_setting = "any"

    @field_validator("any", "all", mode="before")
    @classmethod
    def _single_as_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something_to_find(self) -> Contains:
        if not self.any and not self.all:
            raise ValueError("give `any` or `all` at least one text to find")
        return self

    @classmethod
    def needs_reference(cls, settings: dict[str, Any]) -> bool:
        """Look for the reference where the settings name nothing to look for."""
        return "any" not in settings and "all" not in settings

    def grade(self, answer: str) -> Grade:
        """Look for the texts."""
        answer = comparable(answer)
        missing = [text for text in self.all if not has_text(answer, text)]
        if missing:
            return pass_or_fail(False, f"lacks {listed(missing, 'and')}")
        found = [text for text in self.any if has_text(answer, text)]
        if self.any and not found:
            return pass_or_fail(False, f"lacks {listed(self.any, 'or')}")
        return pass_or_fail(True, f"contains {listed((*self.all, *found[:1]), 'and')}")

    def describe(self) -> str:
        """Name the texts."""
        wanted = [listed(self.all, "and")] if self.all else []
        if self.any:
            wanted.append(listed(self.any, "or"))
        return "contains " + ", and ".join(wanted)


class Regex(Grader):
    """A regular expression (Python's syntax) is found in the answer's first 10,000 characters.

    A search that takes longer than half a second ends in an error, not in a mark.
    """

    type: Literal["regex"] = "regex"
    pattern: Pattern
    reference_setting = "pattern"

    def grade(self, answer: str) -> Grade:
        """Search the answer."""
        try:
            found = search(self.pattern, answer)
        except SlowPatternError as error:
            return failed(Failure("other_error", str(error)))
        if found is None:
            return pass_or_fail(False, f"nothing matches {shown(self.pattern)}")
        return pass_or_fail(True, f"{shown(found)} matches {shown(self.pattern)}")

    def describe(self) -> str:
        """Name the pattern."""
        return f"matches {shown(self.pattern)}"


def has_text(answer: str, text: str) -> bool:
    """Say whether a comparable answer has a text as whole words, white space aside."""
    words = comparable(text).split()
    pattern = r"\s+".join(re.escape(word) for word in words)
    first, last = words[0][0], words[-1][-1]
    before = r"(?<!\w)" if _is_word(first) else ""
    after = r"(?!\w)" if _is_word(last) else ""
    if first.isdigit():
        before += r"(?<!\d[.,])"
    if last.isdigit():
        after += r"(?![.,]\d)"
    return re.search(before + pattern + after, answer) is not None


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def listed(texts: tuple[str, ...] | list[str], last: str) -> str:
    """Return texts as a reader lists them: `a`, `b` and `c`."""
    *others, end = [shown(text) for text in texts]
    return f"{', '.join(others)} {last} {end}" if others else end
