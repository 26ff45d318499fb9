"""OpenAI's `multi`: several graders, and a formula over what they return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tunefork.core.errors import InputError
from tunefork.graders.formula import Formula, parse_formula
from tunefork.graders.grade import Failure, Grade, Grader, failed, not_empty
from tunefork.graders.openai import Threshold
from tunefork.graders.queries import AskingGrader, Query, Reply


class Multi(AskingGrader):
    """`calculate_output`, a formula over the values of named `graders`.

    A grader enters with its value in its own unit: 7 where a `score_model` has a range from 1
    to 10. The result counts as a score from 0 to 1; `Grade.value` keeps it as it came out.
    """

    type: Literal["multi"] = "multi"
    name: str = "multi"
    graders: Annotated[dict[str, SerializeAsAny[Grader]], AfterValidator(not_empty)]
    calculate_output: str
    pass_threshold: Threshold = 0.5
    reference_setting = None

    @field_validator("graders", mode="before")
    @classmethod
    def _parse(cls, graders: object, info: ValidationInfo) -> object:
        if not isinstance(graders, dict) or info.context is None:
            return graders
        return {str(name): _parsed(name, value, info) for name, value in graders.items()}

    @model_validator(mode="after")
    def _reads(self) -> Multi:
        try:
            _ = self._formula
        except ValueError as error:
            raise ValueError(f"`calculate_output`: {error}") from error
        return self

    def with_item(self, item: Mapping[str, Any]) -> Self:
        """Tell each grader."""
        known = {name: grader.with_item(item) for name, grader in self.graders.items()}
        return self.model_copy(update={"graders": known})

    def templates(self) -> tuple[str, ...]:
        """Return the texts of all graders."""
        return tuple(text for grader in self.graders.values() for text in grader.templates())

    def queries(self, answer: str) -> tuple[Query, ...]:
        """Return the queries of all graders, in their order."""
        return tuple(query for grader in self._asking() for query in grader.queries(answer))

    def conclude(self, answer: str, replies: Sequence[Reply]) -> Grade:
        """Mark by each grader, then by the formula; the first failure is the whole's."""
        left = iter(replies)
        grades = {name: _mark(grader, answer, left) for name, grader in self.graders.items()}
        for name, grade in grades.items():
            if grade.error is not None:
                return Grade(0.0, False, f"`{name}`: {grade.detail}", error=grade.error)
            if grade.is_pending:
                return Grade(0.0, False, f"`{name}`: {grade.detail}", is_pending=True)
        parts = {name: grade.reward for name, grade in grades.items()}
        try:
            value = self._formula.value(parts)
        except ValueError as error:
            return failed(Failure("formula_parse_error", str(error)))
        detail = ", ".join(f"{name} {part:g}" for name, part in parts.items())
        score = min(1.0, max(0.0, value))
        passed = value >= self.pass_threshold
        return Grade(score, passed, f"{value:.3g} from {detail}", value=value, parts=parts)

    def describe(self) -> str:
        """Name the formula and what its graders want."""
        wanted = "; ".join(f"{name} {grader.describe()}" for name, grader in self.graders.items())
        return f"`{self.calculate_output}` is at least {self.pass_threshold:g}, where {wanted}"

    def _asking(self) -> Iterator[AskingGrader]:
        return (grader for grader in self.graders.values() if isinstance(grader, AskingGrader))

    @cached_property
    def _formula(self) -> Formula:
        return parse_formula(self.calculate_output, list(self.graders))


def _parsed(name: object, value: object, info: ValidationInfo) -> object:
    if isinstance(value, Grader):
        return value
    assert info.context is not None, "only parsed where there is one"
    try:
        return info.context["parse"](value)
    except InputError as error:
        raise ValueError(f"`{name}`: {error.message}" + _in_brackets(error.hint)) from error


def _in_brackets(hint: str | None) -> str:
    return f" ({hint})" if hint else ""


def _mark(grader: Grader, answer: str, replies: Iterator[Reply]) -> Grade:
    if not isinstance(grader, AskingGrader):
        return grader.grade(answer)
    own = [next(replies) for _ in grader.queries(answer)]
    return grader.conclude(answer, own)
