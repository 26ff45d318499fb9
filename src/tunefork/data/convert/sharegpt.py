"""Write sharegpt's `conversations`."""

from __future__ import annotations

import json
from typing import Any

from tunefork.data.convert.shapes import Held, as_json, conversation, lost_turns
from tunefork.data.example import Message, Row

_FROM = {"user": "human", "assistant": "gpt", "tool": "observation", "developer": "system"}


def sharegpt(row: Row) -> Held | str:
    """Write the turns with their other names; calls and tools as JSON text."""
    found = conversation(row)
    if isinstance(found, str):
        return found
    turns = [part for message in found.messages for part in _parts(message)]
    fields: dict[str, Any] = {"conversations": turns}
    lost = {*found.lost, *lost_turns(found.messages)}
    if any(call.get("id") for turn in found.messages for call in turn.tool_calls):
        lost.add("the `id` of tool calls")
    if any(turn.role == "developer" for turn in found.messages):
        lost.add("that a system turn is the developer's")
    if found.tools:
        fields["tools"] = as_json(list(found.tools))
    return Held((fields,), tuple(sorted(lost)))


def _parts(message: Message) -> list[dict[str, str]]:
    """Return one turn, or two where the assistant speaks and then calls."""
    role = _FROM.get(message.role, message.role)
    if not message.tool_calls:
        return [{"from": role, "value": message.content}]
    calls = [
        {"name": call["function"]["name"], "arguments": _arguments(call["function"])}
        for call in message.tool_calls
    ]
    said = [{"from": role, "value": message.content}] if message.content else []
    return [*said, {"from": "function_call", "value": as_json(calls if calls[1:] else calls[0])}]


def _arguments(function: dict[str, Any]) -> Any:  # any JSON value
    given = function.get("arguments", {})
    if isinstance(given, str):
        try:
            return json.loads(given)
        except ValueError:
            return given
    return given
