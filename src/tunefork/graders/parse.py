"""From a name or an object in the user's file to a grader.

Entry points: `parse_grader` for a question's grader, `validate_grader` for one without question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tunefork.core.errors import DataError, InputError, SpecError, Where, did_you_mean
from tunefork.graders.abstain import Refusal, Unanswerable
from tunefork.graders.bullets import Bullets
from tunefork.graders.form import JsonSchema, Length
from tunefork.graders.grade import Grader, shown
from tunefork.graders.grounded import Citations, Grounded
from tunefork.graders.guidelines import Guidelines
from tunefork.graders.human import Human
from tunefork.graders.judge import Judge
from tunefork.graders.modelled import LabelModel, ScoreModel
from tunefork.graders.multi import Multi
from tunefork.graders.number import Number
from tunefork.graders.openai import StringCheck, TextSimilarity
from tunefork.graders.python import Python
from tunefork.graders.similarity import Similarity
from tunefork.graders.templates import unknown_field
from tunefork.graders.text import Contains, Exact, Regex
from tunefork.graders.voice import Voice

_GRADERS: dict[str, type[Grader]] = {
    "bullets": Bullets,
    "citations": Citations,
    "contains": Contains,
    "exact": Exact,
    "grounded": Grounded,
    "guidelines": Guidelines,
    "human": Human,
    "json_schema": JsonSchema,
    "judge": Judge,
    "label_model": LabelModel,
    "length": Length,
    "multi": Multi,
    "number": Number,
    "numeric": Number,
    "python": Python,
    "refusal": Refusal,
    "regex": Regex,
    "score_model": ScoreModel,
    "similarity": Similarity,
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "unanswerable": Unanswerable,
    "voice": Voice,
}


@dataclass(frozen=True)
class _Question:
    """What is known where the grader stands; `item` is None where there is no question yet."""

    reference: str | None
    item: Mapping[str, Any] | None
    where: Where | None

    @property
    def fields(self) -> dict[str, Any]:
        own = {} if self.reference is None else {"reference": self.reference}
        return {**(self.item or {}), **own}


def parse_grader(
    value: str | dict[str, Any],
    *,
    reference: str | None,
    where: Where | None,
    item: Mapping[str, Any] | None = None,
) -> Grader:
    """Return the grader that a name, or an object with `type` and settings, stands for.

    Args:
        value: `contains`, or `{"type": "contains", "any": ["a", "b"]}`.
        reference: The question's reference; it fills what the grader compares with, where the
            object does not say: the pattern of `regex`, the value of `number`, the schema (as
            JSON text) of `json_schema`.
        where: The question's file and line, for messages.
        item: The question's other fields, for templates such as `{{item.year}}`.

    Raises:
        DataError: Unknown grader or setting, a reference is needed and there is none, or a
            template names a field that the question does not have.
        SpecError: The same, where no place in a data file is given.
    """
    return _parsed(value, _Question(reference, item or {}, where))


def validate_grader(value: str | dict[str, Any]) -> Grader:
    """Return the grader of a request, of which no question is known yet.

    Templates may name any field of `item`. `with_item` tells the grader its question.

    Raises:
        SpecError: It is no grader; the message names the field, the hint what to do.
    """
    return _parsed(value, _Question(None, None, None))


def known_graders() -> list[str]:
    """Return the names of all graders."""
    return sorted(_GRADERS)


def _parsed(value: object, question: _Question) -> Grader:
    where = question.where
    name, settings = _named(value, where)
    kind = _GRADERS[name]
    reference = question.reference
    if reference is not None and reference.strip():
        settings = kind.with_reference(settings, reference)
    elif _lacks_reference(kind, settings, question):
        raise _error(
            where,
            f"grader `{name}` needs a reference and the question has none",
            hint="add `reference` to the question",
        )
    grader = _built(name, kind, settings, question)
    if question.item is not None:
        problem = unknown_field(grader.templates(), question.fields)
        if problem is not None:
            raise _error(where, f"grader `{name}`: {problem}")
    return grader


def _named(value: object, where: Where | None) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        name, settings = value, {}
    elif isinstance(value, dict):
        settings = dict(value)
        name = settings.pop("type", None)
    else:
        raise _error(where, f"a grader is a name or an object, not {shown(repr(value))}")
    if not isinstance(name, str):
        raise _error(where, "the grader has no `type`", hint=_known_graders())
    if name not in _GRADERS:
        near = did_you_mean(name, list(_GRADERS))
        raise _error(where, f"unknown grader {shown(name)}", hint=near or _known_graders())
    return name, settings


def _lacks_reference(kind: type[Grader], settings: dict[str, Any], question: _Question) -> bool:
    # What stands in templates is filled later, where the question is not known yet.
    comes_later = question.item is None and kind.reference_setting is None
    has_typo = not set(settings) <= set(_settings(kind))
    return kind.needs_reference(settings) and not comes_later and not has_typo


def _built(name: str, kind: type[Grader], settings: dict[str, Any], question: _Question) -> Grader:
    parts = _Question(question.reference, question.item, None)
    context = {"item": question.fields, "parse": lambda value: _parsed(value, parts)}
    try:
        # Validation wants text keys; JSON has no others, but a spec in YAML may.
        texts = {str(key): value for key, value in settings.items()}
        return kind.model_validate(texts, context=context)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        messages = tuple(_message(name, problem) for problem in problems)
        hints = (_hint(kind, problem) for problem in problems)
        settings_known = ", ".join(f"`{key}`" for key in _settings(kind))
        hint = next((hint for hint in hints if hint), f"its settings are {settings_known}")
        raise _error(question.where, messages[0], hint=hint, details=messages[1:]) from error


def _message(name: str, problem: ErrorDetails) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {shown(place)} of grader `{name}`"
    if problem["type"] == "missing":
        return f"grader `{name}` needs `{place}`"
    text = problem["msg"].removeprefix("Value error, ")
    return f"grader `{name}`: " + (f"{shown(place)}: " if place else "") + text


def _hint(kind: type[Grader], problem: ErrorDetails) -> str | None:
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_at(kind, problem["loc"][:-1]))
        return did_you_mean(str(problem["loc"][-1]), known) or "known are " + ", ".join(known)
    return None


def _known_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the settings of the object that stands at a place inside a grader."""
    names = [part for part in place if isinstance(part, str)]
    if not names:
        return _settings(kind)
    models = _models_in(kind.model_fields[names[0]].annotation)
    return [name for model in models for name in _known_at(model, tuple(names[1:]))]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # a type has no type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _settings(kind: type[BaseModel]) -> list[str]:
    fields = kind.model_fields.items()
    return sorted(field.alias or name for name, field in fields if name != "type")


def _known_graders() -> str:
    return "known graders are " + ", ".join(known_graders())


def _error(
    where: Where | None, message: str, hint: str | None = None, details: tuple[str, ...] = ()
) -> InputError:
    kind = SpecError if where is None else DataError
    return kind(message, where=where, hint=hint, details=details)
