"""One row's `messages` list, in OpenAI's shape, into turns; each fault gets a clear message."""

from __future__ import annotations

import json
from typing import Any

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.core.hashing import canonical_json
from tunefork.data._record import json_kind
from tunefork.data.example import Message

ROLES = ("assistant", "developer", "system", "tool", "user")
# What other tools call the same roles.
OTHER_ROLES = {
    "ai": "assistant",
    "bing": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
    "function": "tool",
    "gpt": "assistant",
    "human": "user",
    "model": "assistant",
    "observation": "tool",
}
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_WEIGHTS = ("weight", "loss_weight")
_SWITCHES = ("loss", "train")  # true or false
_TRAINED = frozenset((*_WEIGHTS, *_SWITCHES))
_SHAPE = '{"role": "user", "content": "…"}'


def read_messages(value: object, where: Where) -> tuple[Message, ...]:
    """Return the turns of a row.

    Raises:
        DataError: where the list, or one of its messages, has the wrong shape.
    """
    if not isinstance(value, list):
        raise DataError(
            f"`messages` must be a list, but is {json_kind(value)}",
            where=where,
            hint=f"write a list of objects such as {_SHAPE}",
        )
    if not value:
        raise DataError(
            "`messages` is an empty list", where=where, hint="remove the row or fill it"
        )
    return tuple(read_message(item, f"messages[{at}]", where) for at, item in enumerate(value))


def read_tools(value: object, where: Where) -> tuple[dict[str, Any], ...]:
    """Return the tools a row offers to the assistant; none where the field is null.

    Raises:
        DataError: where it is not a list of objects.
    """
    if value is None or value == "":
        return ()
    tools = value
    if isinstance(value, str):  # as tables hold them
        try:
            tools = json.loads(value)
        except (ValueError, RecursionError):
            tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(
            "`tools` must be a list of objects",
            where=where,
            hint='write them as OpenAI does: [{"type": "function", "function": {…}}]',
        )
    return tuple(map(_in_function, tools))


def _in_function(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool as OpenAI writes it; some tools write only what stands in its `function`."""
    is_bare = "name" in tool and "function" not in tool and "type" not in tool
    return {"type": "function", "function": tool} if is_bare else tool


def read_text(value: object, name: str, where: Where) -> str:
    """Return a field that must hold text.

    Raises:
        DataError: where it holds something else, or half a character.
    """
    if not isinstance(value, str):
        raise DataError(
            f"`{name}` must be text, but is {json_kind(value)}",
            where=where,
            hint=f'write `{name}` as "…"',
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"`{name}` holds half a character (a lone `\\ud…` escape)",
            where=where,
            hint="write the character whole, or remove the escape",
        ) from error
    return value


def read_message(item: object, name: str, where: Where) -> Message:
    """Return one turn.

    Raises:
        DataError: where it has the wrong shape.
    """
    if not isinstance(item, dict):
        raise DataError(
            f"`{name}` must be an object, but is {json_kind(item)}",
            where=where,
            hint=f"write each message as {_SHAPE}",
        )
    role = _read_role(item, name, where)
    tool_calls = _read_tool_calls(item.get("tool_calls"), name, where)
    return Message(
        role=role,
        content=_read_content(item, name, where, may_be_null=bool(tool_calls)),
        weight=_read_weight(item, name, where),
        reasoning=_read_reasoning(item, name, where),
        tool_calls=tool_calls,
        tool_call_id=_read_optional(item, "tool_call_id", name, where),
        name=_read_optional(item, "name", name, where),
    )


def _read_role(item: dict[str, Any], name: str, where: Where) -> str:
    if "role" not in item:
        hint = f"write each message as {_SHAPE}"
        if "from" in item and "value" in item:
            hint = "rename `from` to `role` and `value` to `content`"
        raise DataError(f"`{name}` has no `role`", where=where, hint=hint)
    role = item["role"]
    if role in ROLES:
        return str(role)
    known = ", ".join(ROLES)
    near = OTHER_ROLES.get(role) if isinstance(role, str) else None
    hint = f"did you mean `{near}`?" if near else did_you_mean(str(role), list(ROLES)) or ""
    raise DataError(
        f"`{name}` has the unknown role {_cut(role)}; the roles are {known}",
        where=where,
        hint=hint or "use one of these roles",
    )


def _read_content(item: dict[str, Any], name: str, where: Where, *, may_be_null: bool) -> str:
    value = item.get("content")
    if value is None and may_be_null:
        return ""
    if value is None and "content" not in item:
        hint = f"write each message as {_SHAPE}"
        raise DataError(f"`{name}` has no `content`", where=where, hint=hint)
    if not isinstance(value, list):
        return read_text(value, f"{name}.content", where)
    texts = []
    for at, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text" or "text" not in part:
            raise DataError(
                f"`{name}.content[{at}]` is no text part: {_cut(part)}",
                where=where,
                hint='only text is read, as {"type": "text", "text": "…"}',
            )
        texts.append(read_text(part["text"], f"{name}.content[{at}].text", where))
    return "".join(texts)


def _cut(value: object) -> str:
    text = canonical_json(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _read_weight(item: dict[str, Any], name: str, where: Where) -> float:
    """Return whether a turn is trained, which other tools spell in other ways."""
    if _TRAINED.isdisjoint(item):  # as in nearly all turns
        return 1.0
    for key in _SWITCHES:
        if isinstance(item.get(key), bool):
            return float(item[key])
    key = next((key for key in _WEIGHTS if item.get(key) is not None), "weight")
    value = item.get(key)
    if value is None:
        return 1.0
    if isinstance(value, bool) or value not in (0, 1):
        raise DataError(
            f"`{name}.{key}` must be 0 or 1, but is {_cut(value)}",
            where=where,
            hint=f"1 trains this turn, 0 leaves it out; without `{key}` it is trained",
        )
    return float(value == 1)


def _read_reasoning(item: dict[str, Any], name: str, where: Where) -> str | None:
    for key in _REASONING_KEYS:
        if item.get(key) is not None:
            return read_text(item[key], f"{name}.{key}", where)
    return None


def _read_optional(item: dict[str, Any], key: str, name: str, where: Where) -> str | None:
    return None if item.get(key) is None else read_text(item[key], f"{name}.{key}", where)


def _read_tool_calls(value: object, name: str, where: Where) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    calls = value if isinstance(value, list) else [None]
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise DataError(
                f"`{name}.tool_calls` must be a list of objects that name a function",
                where=where,
                hint='write them as OpenAI does: [{"type": "function", "function": '
                '{"name": "…", "arguments": "…"}}]',
            )
    # Parquet has every key in every row, those that a row does not set as null.
    return tuple(
        {key: part for key, part in (call or {}).items() if part is not None} for call in calls
    )
