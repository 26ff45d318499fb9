"""OpenAI's graders that need nothing but two texts: `string_check` and `text_similarity`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from tunefork.graders.grade import Grade, Grader, failed, pass_or_fail, shown
from tunefork.graders.overlap import METRICS
from tunefork.graders.templates import (
    ANSWER,
    REFERENCE,
    UnfilledTemplateError,
    check_templates,
    fill,
    paths,
)

Template = Annotated[str, AfterValidator(check_templates)]
Threshold = Annotated[float, Field(allow_inf_nan=False)]
_SAID = {
    "eq": "is",
    "ne": "is not",
    "like": "contains",
    "ilike": "contains, in any case,",
}


class _TwoTexts(Grader):
    """Two texts with templates, one of which holds the answer."""

    input: Template = f"{{{{{ANSWER}}}}}"
    reference: Template = f"{{{{{REFERENCE}}}}}"
    reference_setting: ClassVar[str | None] = None
    uses_item: ClassVar[bool] = True

    @model_validator(mode="after")
    def _sees_answer(self) -> _TwoTexts:
        if not any(path.startswith("sample.") for text in self.templates() for path in paths(text)):
            raise ValueError(f"neither text holds `{{{{{ANSWER}}}}}`, the answer")
        return self

    @classmethod
    def needs_reference(cls, settings: dict[str, Any]) -> bool:
        """Say whether a template stands for the question's reference."""
        fields = cls.model_fields
        texts = (settings.get(name, fields[name].default) for name in ("input", "reference"))
        return any(path == REFERENCE for text in texts for path in paths(str(text)))

    def templates(self) -> tuple[str, ...]:
        """Return both texts."""
        return (self.input, self.reference)

    def grade(self, answer: str) -> Grade:
        """Fill the templates and compare."""
        try:
            given, wanted = (fill(text, answer, self._item) for text in self.templates())
        except UnfilledTemplateError as error:
            return failed(error.failure)
        return self._compare(given, wanted)

    def _compare(self, given: str, wanted: str) -> Grade:
        raise NotImplementedError


class StringCheck(_TwoTexts):
    """Compare two texts in which `{{sample.output_text}}` and `{{item.reference}}` stand.

    `eq` and `ne`: equal or not; `like` and `ilike`: `input` contains `reference`, with or
    without regard to case. The reference of the question is `item.reference`.
    """

    type: Literal["string_check"] = "string_check"
    name: str = "string_check"
    operation: Literal["eq", "ne", "like", "ilike"]

    def describe(self) -> str:
        """Name the operation and the reference."""
        return f"{shown(self.input)} {_SAID[self.operation]} {shown(self.reference)}"

    def _compare(self, given: str, wanted: str) -> Grade:
        if self.operation == "eq":
            passed = given == wanted
        elif self.operation == "ne":
            passed = given != wanted
        elif self.operation == "like":
            passed = wanted in given
        else:
            passed = wanted.casefold() in given.casefold()
        verb = "holds" if passed else "does not hold"
        return pass_or_fail(passed, f"`{self.operation}` {shown(wanted)} {verb}")


class TextSimilarity(_TwoTexts):
    """How much two texts have in common, by `evaluation_metric`; passed from `pass_threshold` on.

    The metrics are those of `overlap`. OpenAI's `cosine` compares vectors of a model of
    theirs; nothing here stands for it, so it is refused.
    """

    type: Literal["text_similarity"] = "text_similarity"
    name: str = "text_similarity"
    evaluation_metric: str
    pass_threshold: Threshold = 0.5

    @field_validator("evaluation_metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric == "cosine":
            raise ValueError("`cosine` needs an embedding model, which graders do not have")
        if metric not in METRICS:
            raise ValueError(f"unknown metric {shown(metric)}: known are {', '.join(METRICS)}")
        return metric

    def describe(self) -> str:
        """Name the metric and the reference."""
        least = f"at least {self.pass_threshold:g} by {self.evaluation_metric}"
        return f"{shown(self.input)} is like {shown(self.reference)} ({least})"

    def _compare(self, given: str, wanted: str) -> Grade:
        score = METRICS[self.evaluation_metric](given, wanted)
        detail = f"{self.evaluation_metric} {score:.2f} of {self.pass_threshold:g}"
        return Grade(score, score >= self.pass_threshold, detail)
