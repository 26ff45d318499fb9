"""OpenAI's graders that ask a model: `score_model` and `label_model`.

The caller asks; here the messages are filled, the form of the reply is laid down in a last
system message, and the reply is read. What cannot be read is an error, never a mark.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from tunefork.graders.abstain import refuses
from tunefork.graders.grade import (
    Failure,
    Grade,
    comparable,
    failed,
    not_empty,
    pass_or_fail,
    shown,
)
from tunefork.graders.number import last_number
from tunefork.graders.openai import Template
from tunefork.graders.queries import AskingGrader, AskModel, Query, Reply
from tunefork.graders.templates import UnfilledTemplateError, fill, json_value, paths
from tunefork.graders.text import has_text

Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Block(BaseModel):
    """A piece of a message; only text can be shown to a local model."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["input_text", "output_text", "text"]
    text: Template


class _Turn(BaseModel):
    """A message for the model; a text as `content` is one block."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[tuple[_Block, ...], AfterValidator(not_empty)]

    @field_validator("content", mode="before")
    @classmethod
    def _blocks(cls, content: object) -> object:
        parts = content if isinstance(content, list | tuple) else [content]
        return [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]

    def texts(self) -> tuple[str, ...]:
        """Return the text of each block."""
        return tuple(block.text for block in self.content)


class Sampling(BaseModel):
    """How the model is sampled, in OpenAI's names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


class _ModelGrader(AskingGrader):
    """Fills the messages, asks once, reads the reply."""

    input: Annotated[tuple[_Turn, ...], AfterValidator(not_empty)]
    model: str | None = None
    sampling_params: Sampling = Sampling()
    reference_setting: ClassVar[str | None] = None
    uses_item: ClassVar[bool] = True

    @model_validator(mode="after")
    def _sees_answer(self) -> _ModelGrader:
        if not any(path.startswith("sample.") for text in self.templates() for path in paths(text)):
            raise ValueError("`input` nowhere holds `{{sample.output_text}}`, the answer")
        return self

    def templates(self) -> tuple[str, ...]:
        """Return the texts of all messages."""
        return tuple(text for turn in self.input for text in turn.texts())

    def queries(self, answer: str) -> tuple[Query, ...]:
        """Return the one question; none where a template cannot be filled."""
        try:
            turns = [
                {"role": turn.role, "content": "\n".join(self._filled(turn, answer))}
                for turn in self.input
            ]
        except UnfilledTemplateError:
            return ()
        form = {"role": "system", "content": self._form()}
        sampling = self.sampling_params.model_dump(exclude_none=True)
        return (AskModel((*turns, form), self.model, sampling),)

    def conclude(self, answer: str, replies: Sequence[Reply]) -> Grade:
        """Read the reply."""
        if not replies:
            return failed(self._unfilled(answer))
        reply = replies[0]
        if isinstance(reply, Failure):
            return failed(reply)
        return self._read(str(reply).strip())

    @abstractmethod
    def _form(self) -> str:
        """Say how the model is to reply."""

    @abstractmethod
    def _read(self, reply: str) -> Grade:
        """Mark by what the model replied."""

    def _filled(self, turn: _Turn, answer: str) -> list[str]:
        return [fill(text, answer, self._item) for text in turn.texts()]

    def _unfilled(self, answer: str) -> Failure:
        try:
            for turn in self.input:
                self._filled(turn, answer)
        except UnfilledTemplateError as error:
            return error.failure
        raise AssertionError("there was a query, so there is a reply")


class ScoreModel(_ModelGrader):
    """A model returns a number within `range`, scaled to a score from 0 to 1.

    Passed from `pass_threshold` on, which is in the range's unit; by default its middle.
    """

    type: Literal["score_model"] = "score_model"
    name: str = "score_model"
    range: tuple[float, float] = (0.0, 1.0)
    pass_threshold: float | None = None

    @model_validator(mode="after")
    def _has_range(self) -> ScoreModel:
        low, high = self.range
        if not low < high < float("inf") or low == float("-inf"):
            raise ValueError("`range` is [low, high], two numbers, the lower first")
        return self

    def describe(self) -> str:
        """Name the model and the least number."""
        return (
            f"{self.model or 'a model'} scores it at least {self._least():g} of {self.range[1]:g}"
        )

    def _form(self) -> str:
        low, high = self.range
        return f"Reply with one number from {low:g} to {high:g} and nothing else."

    def _read(self, reply: str) -> Grade:
        value = _number(reply)
        low, high = self.range
        if value is None:
            return _unreadable(reply, "a number")
        if not low <= value <= high:
            return _unreadable(reply, f"a number from {low:g} to {high:g}")
        detail = f"the model scored {value:g} of {high:g}"
        return Grade((value - low) / (high - low), value >= self._least(), detail, value=value)

    def _least(self) -> float:
        return sum(self.range) / 2 if self.pass_threshold is None else self.pass_threshold


class LabelModel(_ModelGrader):
    """A model picks one of `labels`; those of `passing_labels` score 1, the others 0."""

    type: Literal["label_model"] = "label_model"
    name: str = "label_model"
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    passing_labels: Annotated[tuple[Label, ...], AfterValidator(not_empty)]

    @model_validator(mode="after")
    def _passing_are_labels(self) -> LabelModel:
        unknown = [label for label in self.passing_labels if label not in self.labels]
        if unknown:
            raise ValueError(f"`passing_labels`: {shown(unknown[0])} is none of `labels`")
        return self

    def describe(self) -> str:
        """Name the model and the labels that pass."""
        return f"{self.model or 'a model'} labels it " + " or ".join(
            map(shown, self.passing_labels)
        )

    def _form(self) -> str:
        return f"Reply with one of these labels and nothing else: {', '.join(self.labels)}"

    def _read(self, reply: str) -> Grade:
        label = _label(reply, self.labels)
        if label is None:
            return _unreadable(reply, "one of the labels")
        return pass_or_fail(label in self.passing_labels, f"the model said {shown(label)}")


def _number(reply: str) -> float | None:
    value: Any = json_value(reply)
    if isinstance(value, dict):
        value = value.get("result", value.get("score"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = last_number(reply)
    return None if found is None else found.value


def _label(reply: str, labels: Sequence[str]) -> str | None:
    """Return the label that a reply is, or the only one that it names."""
    bare = re.sub(r"^\W+|\W+$", "", comparable(reply))
    for label in labels:
        if bare == re.sub(r"^\W+|\W+$", "", comparable(label)):
            return label
    named = [label for label in labels if has_text(comparable(reply), label)]
    return named[0] if len(named) == 1 else None


def _unreadable(reply: str, wanted: str) -> Grade:
    if refuses(reply):
        refusal = f"the model refused: {shown(reply)}"
        return failed(Failure("model_grader_refusal_error", refusal))
    wrong = f"the model replied {shown(reply)}, not {wanted}"
    return failed(Failure("model_grader_parse_error", wrong))
