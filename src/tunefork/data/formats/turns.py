"""Conversations in the spellings of other tools, turned into OpenAI's before they are read.

A turn may be `{role, content}` or `{from, value}`; its role has many names; its content may be a
list of parts (`text`, `reasoning`, `tool_call`), each with its `value`.
"""

from __future__ import annotations

import json
from typing import Any

from tunefork.core.errors import Where
from tunefork.data._messages import OTHER_ROLES, read_message, read_text
from tunefork.data._record import json_kind
from tunefork.data.example import Message
from tunefork.data.formats.form import fault

_CALLS = ("function_call", "tool_call", "function-call", "tool-call")
_RESULTS = ("observation", "tool_response", "tool_result", "function_response", "ipython")


def read_turns(value: object, name: str, where: Where) -> tuple[Message, ...]:
    """Return the turns of a list in any known spelling; a list may also stand there as JSON text.

    Raises:
        DataError: where it is no list, or one of its turns has the wrong shape.
    """
    turns = _from_json(value)
    if not isinstance(turns, list):
        hint = 'write a list of turns such as {"from": "human", "value": "…"}'
        raise fault(f"`{name}` must be a list, but is {json_kind(value)}", where, hint)
    if not turns:
        raise fault(f"`{name}` is an empty list", where, "remove the row or fill it")
    return tuple(read_turn(item, f"{name}[{at}]", where) for at, item in enumerate(turns))


def read_turn(item: object, name: str, where: Where) -> Message:
    """Return one turn.

    Raises:
        DataError: where it has the wrong shape.
    """
    if not isinstance(item, dict):
        return read_message(item, name, where)
    found = dict(item)
    for usual, other in (("role", "from"), ("content", "value")):
        if usual not in found and other in found:
            found[usual] = found.pop(other)
    role = found.get("role")
    if isinstance(role, str):
        role = role.strip().lower()
        if role in _CALLS:
            calls = _calls(found.get("content"), f"{name}.value", where)
            found |= {"role": "assistant", "content": None, "tool_calls": calls}
        else:
            found["role"] = "tool" if role in _RESULTS else OTHER_ROLES.get(role, role)
    if is_in_parts(found.get("content")):
        found |= _from_parts(found["content"], f"{name}.content", where)
    return read_message(found, name, where)


def is_turn_list(value: object) -> bool:
    """Tell whether this looks like a conversation, also where it is one as JSON text."""
    turns = _from_json(value)
    return isinstance(turns, list) and all(
        isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in turns
    )


def is_in_parts(content: object) -> bool:
    """Tell whether a content is a list of parts with values; OpenAI's have a `text` instead."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and "value" in part for part in content)
    )


def _from_json(value: object) -> object:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _from_parts(parts: list[dict[str, Any]], name: str, where: Where) -> dict[str, Any]:
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[dict[str, Any]] = []
    for at, part in enumerate(parts):
        kind = part.get("type")
        if kind in ("tool_call", "function_call"):
            calls += _calls(part["value"], f"{name}[{at}].value", where)
        elif isinstance(kind, str) and kind in texts:
            texts[kind].append(read_text(part["value"], f"{name}[{at}].value", where))
        else:
            hint = "the parts that are read are text, reasoning and tool_call"
            raise fault(f"`{name}[{at}]` is no text part, but {json.dumps(kind)}", where, hint)
    found: dict[str, Any] = {"content": "".join(texts["text"])}
    if texts["reasoning"]:
        found["reasoning_content"] = "".join(texts["reasoning"])
    if calls:
        found["tool_calls"] = calls
    return found


def _calls(value: object, name: str, where: Where) -> list[dict[str, Any]]:
    """Return OpenAI's tool calls for `{"name": …, "arguments": …}`, or a list of such."""
    calls = value
    if isinstance(value, str):
        try:
            calls = json.loads(value)
        except (ValueError, RecursionError):
            calls = None
    calls = calls if isinstance(calls, list) else [calls]
    found = []
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            hint = 'write it as {"name": "…", "arguments": {…}}'
            raise fault(f"`{name}` must be a call of a function, as JSON", where, hint)
        given = call.get("arguments", {})
        arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        function = {"name": call["name"], "arguments": arguments}
        found.append({"type": "function", "function": function})
    return found
