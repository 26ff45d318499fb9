"""From a name or an object in the user's file to a grader."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunefork.core.errors import DataError, InputError, SpecError, Where, did_you_mean
from tunefork.graders.form import JsonSchema, Length
from tunefork.graders.grade import Grader, shown
from tunefork.graders.number import Number
from tunefork.graders.openai import StringCheck
from tunefork.graders.similarity import Similarity
from tunefork.graders.text import Contains, Exact, Regex

_GRADERS: dict[str, type[Grader]] = {
    "contains": Contains,
    "exact": Exact,
    "json_schema": JsonSchema,
    "length": Length,
    "number": Number,
    "regex": Regex,
    "similarity": Similarity,
    "string_check": StringCheck,
}


def parse_grader(
    value: str | dict[str, Any], *, reference: str | None, where: Where | None
) -> Grader:
    """Return the grader that a name, or an object with `type` and settings, stands for.

    Args:
        value: `contains`, or `{"type": "contains", "any": ["a", "b"]}`.
        reference: The question's reference; it fills what the grader compares with, where the
            object does not say: the pattern of `regex`, the value of `number`, the schema (as
            JSON text) of `json_schema`.
        where: The question's file and line, for messages.

    Raises:
        DataError: Unknown grader or setting, or a reference is needed and there is none.
        SpecError: The same, where no place in a data file is given.
    """
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
    kind = _GRADERS[name]
    if reference is not None and reference.strip():
        settings = kind.with_reference(settings, reference)
    elif kind.needs_reference(settings) and set(settings) <= set(_settings(kind)):
        raise _error(
            where,
            f"grader `{name}` needs a reference and the question has none",
            hint="add `reference` to the question",
        )
    return _built(name, kind, settings, reference, where)


def _built(
    name: str,
    kind: type[Grader],
    settings: dict[str, Any],
    reference: str | None,
    where: Where | None,
) -> Grader:
    try:
        # Validation wants text keys; JSON has no others, but a spec in YAML may.
        texts = {str(key): value for key, value in settings.items()}
        return kind.model_validate(texts, context={"reference": reference})
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        messages = tuple(_message(name, problem) for problem in problems)
        hints = (_hint(kind, problem) for problem in problems)
        settings_known = ", ".join(f"`{key}`" for key in _settings(kind))
        hint = next((hint for hint in hints if hint), f"its settings are {settings_known}")
        raise _error(where, messages[0], hint=hint, details=messages[1:]) from error


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
        known = _settings(kind)
        return did_you_mean(str(problem["loc"][0]), known) or "known are " + ", ".join(known)
    return None


def _settings(kind: type[Grader]) -> list[str]:
    fields = kind.model_fields.items()
    return sorted(field.alias or name for name, field in fields if name != "type")


def _known_graders() -> str:
    return "known graders are " + ", ".join(sorted(_GRADERS))


def _error(
    where: Where | None, message: str, hint: str | None = None, details: tuple[str, ...] = ()
) -> InputError:
    kind = SpecError if where is None else DataError
    return kind(message, where=where, hint=hint, details=details)
