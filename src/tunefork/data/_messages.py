"""One row's `messages` list, in OpenAI's shape, into turns; each fault gets a clear message."""

from __future__ import annotations

from typing import Any

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.core.hashing import canonical_json
from tunefork.data.example import Message
from tunefork.data.read import json_kind

ROLES = ("assistant", "developer", "system", "tool", "user")
# What other tools call the same roles.
_OTHER_ROLES = {
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "function": "tool",
    "gpt": "assistant",
    "human": "user",
    "model": "assistant",
    "observation": "tool",
}
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
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
    return tuple(_read_message(item, f"messages[{at}]", where) for at, item in enumerate(value))


def read_tools(value: object, where: Where) -> tuple[dict[str, Any], ...]:
    """Return the tools a row offers to the assistant; none where the field is null.

    Raises:
        DataError: where it is not a list of objects.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise DataError(
            "`tools` must be a list of objects",
            where=where,
            hint='write them as OpenAI does: [{"type": "function", "function": {…}}]',
        )
    return tuple(value)


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


def _read_message(item: object, name: str, where: Where) -> Message:
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
        weight=_read_weight(item.get("weight"), name, where),
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
    near = _OTHER_ROLES.get(role) if isinstance(role, str) else None
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


def _read_weight(value: object, name: str, where: Where) -> float:
    if value is None:
        return 1.0
    if isinstance(value, bool) or value not in (0, 1):
        raise DataError(
            f"`{name}.weight` must be 0 or 1, but is {_cut(value)}",
            where=where,
            hint="1 trains this turn, 0 leaves it out; without `weight` it is trained",
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
    return tuple(calls)
