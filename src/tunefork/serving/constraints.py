"""What an answer must be: the API's `response_format` and `tool_choice` as constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tunefork.core.errors import InputError
from tunefork.inference.engine import Constraint, json_object, json_schema
from tunefork.serving.chat_body import (
    NamedTool,
    ObjectFormat,
    SchemaFormat,
    TextFormat,
    Tool,
)
from tunefork.serving.errors import invalid
from tunefork.serving.tools import Style, call_schema


def format_constraint(
    given: TextFormat | ObjectFormat | SchemaFormat | None, param: str
) -> Constraint | None:
    """Return the constraint of a `response_format`.

    Raises:
        ApiError: The schema cannot be enforced.
    """
    if isinstance(given, SchemaFormat):
        return schema_constraint(given.json_schema.schema_, f"{param}.json_schema.schema")
    return json_object() if isinstance(given, ObjectFormat) else None


def schema_constraint(schema: dict[str, object], param: str) -> Constraint:
    """Return the constraint of a JSON schema.

    Raises:
        ApiError: It cannot be enforced.
    """
    try:
        return json_schema(schema)
    except InputError as error:
        raise invalid(f"The schema cannot be enforced: {error.message}", param) from error


def call_constraint(
    tools: Sequence[Tool], choice: Literal["required"] | NamedTool, style: Style
) -> Constraint:
    """Return the constraint of a `tool_choice` that leaves no choice.

    Raises:
        ApiError: It names a tool that is not there, or this model's way of calling cannot be
            enforced.
    """
    offered = [tool.model_dump(exclude_none=True) for tool in tools]
    if isinstance(choice, NamedTool):
        name = choice.function.name
        offered = [tool for tool in offered if tool["function"]["name"] == name]
        if not offered:
            raise invalid(f"There is no tool `{name}`.", "tool_choice")
    if style == "tags":
        raise invalid("This model's way of calling tools cannot be enforced.", "tool_choice")
    schema = call_schema(offered)
    if style == "list":
        schema = {"type": "array", "items": schema, "minItems": 1}
    return schema_constraint(schema, "tools")
