"""Formats of prompts without an answer; what else a row holds is for who judges answers to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunefork.core.errors import Where
from tunefork.data._messages import read_text, read_tools
from tunefork.data.example import Example, Message, Prompt
from tunefork.data.formats.chat import with_system
from tunefork.data.formats.form import Fields, Format, fault, system_turn
from tunefork.data.formats.turns import is_turn_list, read_turns

_REFERENCE = "reference"
_KNOWN = {"system", "tools", "id", "item", "group", "grader"}  # that say nothing of an answer


def prompt_of(column: str, system: str | None = "system") -> Callable[[Fields, Where], Prompt]:
    """Return a builder for rows whose prompt is a text or a conversation in a column."""

    def build(fields: Fields, where: Where) -> Prompt:
        if is_turn_list(fields[column]) and not isinstance(fields[column], str):
            messages = with_system(fields, read_turns(fields[column], column, where), where)
        else:
            asked = Message("user", read_text(fields[column], column, where))
            messages = (*system_turn(fields, system, where), asked)
        if messages[-1].role == "assistant":
            hint = "end it with what the user says last; the model goes on from there"
            raise fault("the prompt ends with a turn of the assistant", where, hint)
        if not any(turn.content.strip() for turn in messages if turn.role == "user"):
            raise fault("the prompt asks nothing", where, "fill it in, or remove the row")
        return Prompt(
            messages, where, _item(fields, column), read_tools(fields.get("tools"), where)
        )

    return build


def as_prompt(row: Example) -> Prompt:
    """Return a conversation as a prompt whose `reference` is its last answer."""
    return Prompt(row.prompt, row.where, {"reference": row.answer}, row.tools)


def _item(fields: Fields, column: str) -> dict[str, Any]:
    """Return all columns but the prompt; those of an `item` stand beside them."""
    own = {name: value for name, value in fields.items() if name not in (column, "item")}
    more = fields.get("item")
    return {**own, **more} if isinstance(more, dict) else own


def _ends_with_the_user(fields: Fields) -> bool:
    turns = fields["messages"]
    if not is_turn_list(turns) or isinstance(turns, str) or not turns:
        return False
    roles = [turn.get("role", turn.get("from")) for turn in turns]
    # A conversation that lacks its last answer is a prompt where something more is known of it.
    return roles[-1] in ("user", "human") and bool(fields.keys() - {"messages", *_KNOWN})


def _is_prompt_alone(column: str) -> Callable[[Fields], bool]:
    def fits(fields: Fields) -> bool:
        others = fields.keys() - {column, *_KNOWN}
        return not others or _REFERENCE in others

    return fits


# Before all others: a conversation that ends with the user is none to learn by heart.
MESSAGES_PROMPT = Format(
    "prompts (messages)",
    ("messages",),
    prompt_of("messages"),
    "prompts",
    ("system", "tools"),
    _ends_with_the_user,
)
PROMPT_FORMATS = tuple(
    Format(
        f"prompts ({column})",
        (column,),
        prompt_of(column),
        "prompts",
        ("system", "tools", "item", _REFERENCE),
        _is_prompt_alone(column),
    )
    for column in ("prompt", "question")
)
