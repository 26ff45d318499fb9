"""`{{item.x}}` and `{{sample.output_text}}` in a grader's texts.

`item` is what is known of the question: its `reference` and the row's own fields. `sample` is
the answer: `output_text`, and `output_json`, its value where it is JSON. A path goes on with
`.name` and `[0]`: `{{ item.facts[0].year }}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunefork.core.errors import did_you_mean
from tunefork.graders.grade import Failure, shown

ANSWER = "sample.output_text"
REFERENCE = "item.reference"

_TEMPLATE = re.compile(r"\{\{\s*(?P<path>[^{}]*?)\s*\}\}")
_PATH = re.compile(r"(?P<root>item|sample)(?P<steps>(?:\.[^.\[\]\s]+|\[[0-9]+\])+)")
_STEP = re.compile(r"\.([^.\[\]\s]+)|\[([0-9]+)\]")
_SAMPLE_FIELDS = ("output_text", "output_json")


class UnfilledTemplateError(ValueError):
    """A template stands for something that this answer or question does not have."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def paths(text: str) -> Iterator[str]:
    """Yield what the templates of a text stand for."""
    return (match["path"] for match in _TEMPLATE.finditer(text))


def check_templates(text: str) -> str:
    """Return the text.

    Raises:
        ValueError: A template of it can never be filled.
    """
    for path in paths(text):
        steps = _steps(path)
        if not steps or (steps[0] == "sample" and steps[1] not in _SAMPLE_FIELDS):
            raise ValueError(
                f"unknown template `{{{{{path}}}}}`: known are `{{{{sample.output_text}}}}`, "
                "`{{sample.output_json}}` and `{{item.…}}`, a field of the question"
            )
    return text


def unknown_field(texts: Iterable[str], item: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first template whose field the item lacks, or None."""
    for text in texts:
        for path in paths(text):
            root, *steps = _steps(path) or ("",)
            if root == "item" and steps[0] not in item:
                return f"`{{{{{path}}}}}`: " + _no_field(str(steps[0]), item)
    return None


def fill(text: str, answer: str, item: Mapping[str, Any]) -> str:
    """Return the text with its templates filled, once: what they bring in is not read again.

    Raises:
        UnfilledTemplateError: A field is missing, or the answer is not JSON.
    """
    sample = _sample_for(text, answer)
    return _TEMPLATE.sub(
        lambda match: _text_of(_looked_up(match["path"], {"item": item, "sample": sample})), text
    )


def sample_of(answer: str) -> dict[str, Any]:
    """Return what OpenAI's graders call `sample`: the answer as text, and as JSON or None."""
    return {"output_text": answer, "output_json": json_value(answer)}


def json_value(text: str) -> Any:  # a JSON value has no type
    """Return the value that a text is JSON of, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _sample_for(text: str, answer: str) -> dict[str, Any]:
    # Parsing every answer as JSON would be wasted on most graders.
    return sample_of(answer) if "output_json" in text else {"output_text": answer}


def _steps(path: str) -> tuple[str | int, ...]:
    match = _PATH.fullmatch(path)
    if match is None:
        return ()
    steps = (int(index) if index else name for name, index in _STEP.findall(match["steps"]))
    return (match["root"], *steps)


def _looked_up(path: str, known: Mapping[str, Any]) -> Any:
    value: Any = known
    for step in _steps(path):
        if value is None and path.startswith("sample.output_json"):
            raise UnfilledTemplateError(Failure("sample_parse_error", "the answer is not JSON"))
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            missing = Failure("invalid_variable_error", f"there is no {shown(path)}")
            raise UnfilledTemplateError(missing) from error
    if value is None and path == "sample.output_json":
        raise UnfilledTemplateError(Failure("sample_parse_error", "the answer is not JSON"))
    return value


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _no_field(name: str, item: Mapping[str, Any]) -> str:
    fields = [str(key) for key in item]
    near = did_you_mean(name, fields)
    known = ", ".join(f"`{field}`" for field in fields) or "none"
    return f"the question has no field `{name}`; " + (near or f"its fields are {known}")
