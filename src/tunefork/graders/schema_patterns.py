"""The keywords of JSON Schema that search with patterns, in bounded time.

The `jsonschema` library searches with `re`, which may take for ever; these take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunefork.graders.grade import shown
from tunefork.graders.patterns import check_pattern, search

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

Schema = Mapping[str, Any]


def check_patterns(schema: object) -> None:
    """Check every pattern of a schema.

    Raises:
        ValueError: One is no regular expression, or stands where it could not be bounded.
    """
    if isinstance(schema, dict):
        if isinstance(schema.get("$schema"), str):
            raise ValueError("`$schema` belongs at the top of the schema, nowhere else")
        own = schema.get("patternProperties")
        patterns = list(own) if isinstance(own, dict) else []
        if isinstance(schema.get("pattern"), str):
            patterns.append(schema["pattern"])
        for pattern in patterns:
            check_pattern(pattern)
        if patterns and "unevaluatedProperties" in schema:
            raise ValueError("`unevaluatedProperties` beside patterns is not supported")
        for part in schema.values():
            check_patterns(part)
    elif isinstance(schema, list):
        for part in schema:
            check_patterns(part)


def keywords() -> dict[str, Callable[..., Iterator[ValidationError]]]:
    """Return the keywords to extend a validator with."""
    return {
        "additionalProperties": _additional_properties,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
    }


def _pattern(
    validator: Validator, pattern: str, value: Any, schema: Schema
) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and search(pattern, value) is None:
        yield _fault(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Schema, value: Any, schema: Schema
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for pattern, wanted in patterns.items():
        for key in value:
            if search(pattern, key) is not None:
                yield from validator.descend(value[key], wanted, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, wanted: Any, value: Any, schema: Schema
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    patterns = schema.get("patternProperties", {})
    for key in value:
        known = key in schema.get("properties", {})
        if known or any(search(pattern, key) is not None for pattern in patterns):
            continue
        if validator.is_type(wanted, "object"):
            yield from validator.descend(value[key], wanted, path=key)
        elif not wanted:
            yield _fault(f"{shown(key)} is not allowed")


def _fault(message: str) -> ValidationError:
    from jsonschema import ValidationError

    return ValidationError(message)
