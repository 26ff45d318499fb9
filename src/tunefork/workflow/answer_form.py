"""What form an answer has, and which grader marks answers of that form."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from tunefork.graders.number import last_number

Form = Literal["yes or no", "label", "number", "JSON", "list", "short", "long"]

_YES_OR_NO = {"yes", "no", "true", "false"}
_BULLET = re.compile(r"[ \t]*(?:[-*+•‣◦]|[0-9]{1,3}[.)])[ \t]+\S")
# "about 12 km", and not a time, a date or a sentence that happens to hold a number.
_NUMBER = re.compile(r"(?:\w+ )?[-\N{MINUS SIGN}]?[$€£¥]?\d[\d,.]*\s?%?(?: [^\W\d]+){0,2}\.?")
_LABEL_WORDS = 4
_MOST_LABELS = 50
_ROWS_PER_LABEL = 5  # on average: below, answers are only short
_SHORT_WORDS = 6  # as `load_golden` has it
_MOST_KEYS = 40  # of an object in a schema


def labels_of(answers: Sequence[str]) -> frozenset[str]:
    """Return the labels that answers are chosen from; none where they are not."""
    counts = Counter(answer.strip() for answer in answers)
    is_few = len(counts) <= min(_MOST_LABELS, len(answers) / _ROWS_PER_LABEL)
    is_short = all(0 < len(each.split()) <= _LABEL_WORDS for each in counts)
    return frozenset(counts) if is_few and is_short and len(counts) > 1 else frozenset()


def form_of(answer: str, labels: frozenset[str] = frozenset()) -> Form:
    """Return the form of an answer; `labels` are those of its file."""
    text = answer.strip()
    if text.rstrip(".!").casefold() in _YES_OR_NO:
        return "yes or no"
    if text in labels:
        return "label"
    if text[:1] in ("{", "[") and _json(text) is not None:
        return "JSON"
    words = text.split()
    if _NUMBER.fullmatch(text) and last_number(text) is not None:
        return "number"
    lines = [line for line in text.splitlines() if line.strip()]
    n_items = sum(_BULLET.match(line) is not None for line in lines)
    if n_items >= 2 and 2 * n_items >= len(lines):
        return "list"
    return "short" if len(words) <= _SHORT_WORDS else "long"


def grader_for(answer: str, form: Form) -> tuple[str | None, str | dict[str, Any]]:
    """Return (reference, grader) that mark answers as this one is.

    A list and an object are marked by their form, since their words may differ: as many items, or
    the same keys with values of the same kind.
    """
    text = answer.strip()
    if form in ("yes or no", "label"):
        return text, {"type": "exact", "ignore_case": True}
    if form == "number":
        return text, "numeric"
    if form == "JSON":
        return None, {"type": "json_schema", "schema": schema_of(json.loads(text))}
    if form == "list":
        n_items = sum(_BULLET.match(line) is not None for line in text.splitlines())
        return None, {"type": "bullets", "min_items": n_items, "max_items": n_items}
    return text, "contains" if form == "short" else "similarity"


def schema_of(value: Any) -> dict[str, Any]:
    """Return a JSON Schema of values such as this one: the same keys, values of the same kind."""
    if isinstance(value, dict):
        keys = list(value)[:_MOST_KEYS]
        parts = {key: schema_of(value[key]) for key in keys}
        return {"type": "object", "properties": parts, "required": keys}
    if isinstance(value, list):
        kinds = [schema_of(each) for each in value]
        is_one_kind = bool(kinds) and all(kind == kinds[0] for kind in kinds)
        return {"type": "array", "items": kinds[0]} if is_one_kind else {"type": "array"}
    if value is None:
        return {}  # it may be anything where there is something
    names: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string"}
    return {"type": names[type(value)]}


def _json(text: str) -> dict[str, Any] | list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
