"""Tools in and out: whether a model's template takes them, and how its calls read.

A template that shows tools also says how calls are to be written; the three ways in use are told
apart by what stands in it. What does not parse as calls is text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from tunefork.data import ChatTemplate

Style = Literal["tags", "list", "object"]
_TAG = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
_LIST_MARK = "[TOOL_CALLS]"
_STARTS: dict[Style, tuple[str, ...]] = {
    "tags": ("<tool_call>",),
    "list": (_LIST_MARK, "[{"),
    "object": ("{", "<|python_tag|>"),
}


@dataclass(frozen=True)
class ToolCall:
    """A call that a model wrote; `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Said:
    """An answer taken apart."""

    text: str
    calls: tuple[ToolCall, ...]


def style_of(template: ChatTemplate) -> Style | None:
    """Return how a template's model writes calls; None where it takes no tools."""
    if not template.takes_tools:
        return None
    if "<tool_call>" in template.source:
        return "tags"
    return "list" if _LIST_MARK in template.source else "object"


def may_be_call(text: str, style: Style) -> bool:
    """Say whether an answer that begins so may turn out to hold a call."""
    begin = text.lstrip()
    if style == "tags" and "<tool_call>" in text:
        return True
    return any(start.startswith(begin) or begin.startswith(start) for start in _STARTS[style])


def take_apart(text: str, style: Style, names: frozenset[str]) -> Said:
    """Split an answer into text and calls of the tools that there are."""
    if style == "tags":
        found = [_calls(_value(match[1]), names) for match in _TAG.finditer(text)]
        calls = [call for each in found for call in each]
        rest = _TAG.sub("", text).strip()
    else:
        body = text.strip().removeprefix(_LIST_MARK).removeprefix("<|python_tag|>")
        calls, rest = _calls(_value(body), names), ""
    return Said(rest, tuple(calls)) if calls else Said(text, ())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _calls(value: Any, names: frozenset[str]) -> list[ToolCall]:
    found = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict) or each.get("name") not in names:
            return []
        arguments = each.get("arguments", each.get("parameters", {}))
        if not isinstance(arguments, dict):
            return []
        text = json.dumps(arguments, ensure_ascii=False)
        found.append(ToolCall(str(each["name"]), text))
    return found


def call_schema(tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON schema of a call of one of some tools."""
    kinds = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": tool["function"].get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
