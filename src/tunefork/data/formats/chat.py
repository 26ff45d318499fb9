"""Formats whose rows hold a whole conversation in one column."""

from __future__ import annotations

from tunefork.core.errors import Where
from tunefork.data._messages import read_messages, read_text, read_tools
from tunefork.data._record import json_kind
from tunefork.data.example import Example, Message
from tunefork.data.formats.form import Fields, Format, fault, system_turn
from tunefork.data.formats.turns import is_in_parts, is_turn_list, read_turns


def example(messages: tuple[Message, ...], fields: Fields, where: Where) -> Example:
    """Return a conversation that somebody can learn from.

    Raises:
        DataError: where the assistant says nothing in it, or the tools have the wrong shape.
    """
    if not any(message.role == "assistant" for message in messages):
        raise fault(
            "no assistant turn, so there is nothing to learn",
            where,
            'end the conversation with {"role": "assistant", "content": "…"}, or remove it',
        )
    return Example(messages, where, read_tools(fields.get("tools"), where))


def with_system(fields: Fields, messages: tuple[Message, ...], where: Where) -> tuple[Message, ...]:
    """Return the turns behind the row's own system turn; a list that has one keeps that."""
    if messages[0].role == "system":
        return messages
    return (*system_turn(fields, "system", where), *messages)


def _from_messages(fields: Fields, where: Where) -> Example:
    return example(read_messages(fields["messages"], where), fields, where)


def _conversation(column: str) -> Format:
    """Return the sharegpt format with its turns in a column."""

    def build(fields: Fields, where: Where) -> Example:
        messages = with_system(fields, read_turns(fields[column], column, where), where)
        return example(messages, fields, where)

    def fits(fields: Fields) -> bool:
        return is_turn_list(fields[column])

    uses = ("system", "tools")
    return Format("sharegpt", (column,), build, uses=uses, fits=fits)


def _from_parts(fields: Fields, where: Where) -> Example:
    return example(read_turns(fields["messages"], "messages", where), fields, where)


def _are_parts(fields: Fields) -> bool:
    turns = fields["messages"]
    return isinstance(turns, list) and any(
        isinstance(turn, dict) and is_in_parts(turn.get("content")) for turn in turns
    )


def _has_other_names(fields: Fields) -> bool:
    turns = fields["messages"]
    return isinstance(turns, str) or (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and "from" in turn and "role" not in turn for turn in turns)
    )


def _from_rounds(fields: Fields, where: Where) -> Example:
    messages = system_turn(fields, "system", where)
    for at, item in enumerate(fields["conversation"]):
        name = f"conversation[{at}]"
        if not isinstance(item, dict) or not {"human", "assistant"} <= item.keys():
            hint = 'write each round as {"human": "…", "assistant": "…"}'
            raise fault(f"`{name}` is no round, but {json_kind(item)}", where, hint)
        messages.append(Message("user", read_text(item["human"], f"{name}.human", where)))
        answer = read_text(item["assistant"], f"{name}.assistant", where)
        messages.append(Message("assistant", answer))
    return example(tuple(messages), fields, where)


def _are_rounds(fields: Fields) -> bool:
    rounds = fields["conversation"]
    return isinstance(rounds, list) and any(
        isinstance(turn, dict) and {"human", "assistant"} <= turn.keys() for turn in rounds
    )


_RENAMED = _conversation("messages")
CHAT_FORMATS = (
    Format("messages in parts", ("messages",), _from_parts, uses=("tools",), fits=_are_parts),
    Format("sharegpt", ("messages",), _RENAMED.build, uses=_RENAMED.uses, fits=_has_other_names),
    Format("messages", ("messages",), _from_messages, uses=("tools",)),
    Format("rounds", ("conversation",), _from_rounds, uses=("system",), fits=_are_rounds),
    _conversation("conversations"),
    _conversation("conversation"),
)
