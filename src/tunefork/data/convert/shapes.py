"""How each format writes a row, and which rows it cannot hold.

A shape returns the fields of one or more written rows and what gets lost on the way, or in words
why it cannot hold the row at all. Losing is what leaves the row worth having, such as a weight;
what would change its meaning, such as a tool call, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunefork.data.example import Example, Judged, Labelled, Message, Preference, Prompt, Row, Text

Fields = dict[str, Any]  # one row as it is written: JSON values


@dataclass(frozen=True)
class Held:
    """A row as a format holds it."""

    rows: tuple[Fields, ...]
    lost: tuple[str, ...] = ()


Shape = Callable[[Row], Held | str]

_LISTS = "`--to chat`, `preference` or `kto` hold whole conversations, in JSON lines or Parquet"


@dataclass(frozen=True)
class Conversation:
    """What any kind of row says as one conversation."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    lost: tuple[str, ...] = ()


def conversation(row: Row) -> Conversation | str:
    """Return a row as a conversation to learn from, or why it is none."""
    if isinstance(row, Example):
        return Conversation(row.messages, row.tools)
    if isinstance(row, Preference):
        return Conversation((*row.prompt, *row.chosen), row.tools, ("the rejected answer",))
    if isinstance(row, Judged):
        if not row.is_good:
            return "the answer is judged bad, so it is none to learn"
        return Conversation((*row.prompt, *row.completion), row.tools, ("the judgement",))
    if isinstance(row, Labelled):
        if not row.label:
            return "it has no label, so there is no answer to learn"
        return Conversation((Message("user", row.text), Message("assistant", row.label)))
    if isinstance(row, Prompt):
        return "a prompt without an answer is no conversation"
    return "a plain text is no conversation"


def chat(row: Row) -> Held | str:
    """Write OpenAI's `messages`."""
    found = conversation(row)
    if isinstance(found, str):
        return found
    fields = {"messages": turns(found.messages), **_tools(found.tools)}
    return Held((fields,), found.lost)


def prompt_completion(row: Row) -> Held | str:
    """Write one text for the prompt and one for the completion."""
    found = _single(row)
    if isinstance(found, str):
        return found
    if found.system:
        return "a system turn; `--to chat` holds it"
    return Held(({"prompt": found.user, "completion": found.assistant},), found.lost)


def table(row: Row) -> Held | str:
    """Write the columns of a table, by the kind of row."""
    if isinstance(row, Preference):
        sides = _texts(row.prompt), _answer(row.chosen), _answer(row.rejected)
        if isinstance(sides[0], str) or sides[1] is None or sides[2] is None or row.tools:
            return f"more than one question and its answers; {_LISTS}"
        system, user = sides[0]
        fields: Fields = {
            "system": system,
            "prompt": user,
            "chosen": sides[1],
            "rejected": sides[2],
        }
        return Held((fields,), lost_turns((*row.prompt, *row.chosen, *row.rejected)))
    if isinstance(row, Judged):
        asked, said = _texts(row.prompt), _answer(row.completion)
        if isinstance(asked, str) or said is None or row.tools:
            return f"more than one question and its answer; {_LISTS}"
        fields = {"system": asked[0], "prompt": asked[1], "completion": said}
        fields["label"] = row.is_good
        return Held((fields,), lost_turns((*row.prompt, *row.completion)))
    if isinstance(row, Labelled | Text):
        return plain(row)
    if isinstance(row, Prompt):
        texts = _texts(row.messages)
        if isinstance(texts, str) or row.tools:
            return f"more than one question; {_LISTS}"
        columns = {"system": texts[0], "prompt": texts[1], "item": dict(row.item)}
        return Held((columns,), lost_turns(row.messages))
    found = _single(row)
    if isinstance(found, str):
        return found
    columns = {"system": found.system, "user": found.user, "assistant": found.assistant}
    return Held((columns,), found.lost)


def alpaca(row: Row) -> Held | str:
    """Write `instruction`, `input` and `output`, with the system and earlier rounds beside them."""
    found = conversation(row)
    if isinstance(found, str):
        return found
    system, rest = _without_system(found.messages)
    roles = [turn.role for turn in rest]
    if found.tools or any(turn.tool_calls for turn in rest):
        return "tools; `--to chat` or `sharegpt` hold them"
    if not rest or roles != ["user", "assistant"] * (len(roles) // 2):
        return "turns that are not a question and its answer by turns; `--to chat` holds them"
    texts = [turn.content for turn in rest]
    fields: Fields = {"instruction": texts[-2], "input": "", "output": texts[-1]}
    if system:
        fields["system"] = system
    if len(texts) > 2:
        fields["history"] = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2], strict=True)]
    return Held((fields,), (*found.lost, *lost_turns(found.messages)))


def openai_preference(row: Row) -> Held | str:
    """Write OpenAI's `input`, `preferred_output` and `non_preferred_output`."""
    if not isinstance(row, Preference):
        return _no_preference(row)
    given = {"messages": turns(row.prompt), **_tools(row.tools)}
    better, worse = turns(row.chosen), turns(row.rejected)
    return Held(({"input": given, "preferred_output": better, "non_preferred_output": worse},))


def preference(row: Row) -> Held | str:
    """Write `prompt`, `chosen` and `rejected` as lists of turns."""
    if not isinstance(row, Preference):
        return _no_preference(row)
    sides = {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
    return Held(({name: turns(side) for name, side in sides.items()} | _tools(row.tools),))


def kto(row: Row) -> Held | str:
    """Write `prompt`, `completion` and whether it is good; a preference makes two such rows."""
    if isinstance(row, Preference):
        answers = [(row.chosen, True), (row.rejected, False)]
    elif isinstance(row, Judged):
        answers = [(row.completion, row.is_good)]
    else:
        return f"{_name(row)} holds no judgement whether it is good"
    return Held(
        tuple(
            {"prompt": turns(row.prompt), "completion": turns(answer), "label": is_good}
            | _tools(row.tools)
            for answer, is_good in answers
        )
    )


def labels(row: Row) -> Held | str:
    """Write a text and its label."""
    return plain(row) if isinstance(row, Labelled) else f"{_name(row)} holds no label"


def text(row: Row) -> Held | str:
    """Write a text alone."""
    if isinstance(row, Text):
        return plain(row)
    if isinstance(row, Labelled):
        return Held(({"text": row.text},), ("the label",))
    return f"{_name(row)} is no plain text"


def prompts(row: Row) -> Held | str:
    """Write a prompt as turns, and what is known of a good answer; an answer is its reference."""
    if isinstance(row, Example):
        row = Prompt(row.prompt, row.where, {"reference": row.answer}, row.tools)
    if not isinstance(row, Prompt):
        return f"{_name(row)} is no prompt to be answered"
    if not any(turn.content.strip() for turn in row.messages if turn.role == "user"):
        return "nothing is asked"
    fields = {"prompt": turns(row.messages), "item": dict(row.item), **_tools(row.tools)}
    return Held((fields,))


def plain(row: Labelled | Text) -> Held:
    """Write a text, with its label where it has one; a list of labels stays a list."""
    if isinstance(row, Text):
        return Held(({"text": row.text},))
    label = row.label if row.listed is None else list(row.listed)
    return Held(({"text": row.text, "label": label},))


def turns(messages: tuple[Message, ...]) -> list[Fields]:
    """Return turns as OpenAI writes them; what is not set is left out."""
    found = []
    for message in messages:
        fields = message.as_template()
        if message.weight != 1.0 and message.role == "assistant":
            fields["weight"] = int(message.weight)
        found.append(fields)
    return found


def lost_turns(messages: tuple[Message, ...]) -> tuple[str, ...]:
    """Return what a format of plain texts does not hold of some turns."""
    lost = {
        "`weight`": any(turn.weight != 1.0 for turn in messages if turn.role == "assistant"),
        "`reasoning_content`": any(turn.reasoning for turn in messages),
        "`name`": any(turn.name for turn in messages),
    }
    return tuple(name for name, is_lost in lost.items() if is_lost)


def natural(row: Row) -> Held | str:
    """Write a row in the fullest format of its kind."""
    by_kind: dict[str, Shape] = {
        "chat": chat,
        "preference": preference,
        "judged": kto,
        "prompts": prompts,
    }
    return by_kind.get(row.kind, table)(row)


@dataclass(frozen=True)
class _Single:
    system: str
    user: str
    assistant: str
    lost: tuple[str, ...]


def _single(row: Row) -> _Single | str:
    """Return one question with its answer, or why it is more than that."""
    found = conversation(row)
    if isinstance(found, str):
        return found
    asked = _texts(found.messages[:-1])
    said = _answer(found.messages[-1:])
    if found.tools or any(turn.tool_calls for turn in found.messages):
        return "tools; `--to chat` or `sharegpt` hold them"
    if isinstance(asked, str) or said is None:
        return "more than one question and its answer; `--to chat` holds whole conversations"
    lost = (*found.lost, *lost_turns(found.messages))
    return _Single(asked[0], asked[1], said, lost)


def _without_system(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    if messages and messages[0].role == "system":
        return messages[0].content, messages[1:]
    return "", messages


def _texts(prompt: tuple[Message, ...]) -> tuple[str, str] | str:
    """Return the system's text and the user's, or why there are not just these."""
    system, rest = _without_system(prompt)
    if [turn.role for turn in rest] != ["user"]:
        return "more turns"
    return system, rest[0].content


def _answer(messages: tuple[Message, ...]) -> str | None:
    """Return an answer that is one text, or None."""
    if len(messages) != 1 or messages[0].role != "assistant" or messages[0].tool_calls:
        return None
    return messages[0].content


def _tools(tools: tuple[dict[str, Any], ...]) -> Fields:
    return {"tools": list(tools)} if tools else {}


def _name(row: Row) -> str:
    names = {
        "chat": "a conversation",
        "preference": "a preference",
        "judged": "a judged answer",
        "labelled": "a text with its label",
        "text": "a plain text",
        "prompts": "a prompt",
    }
    return names[row.kind]


def _no_preference(row: Row) -> str:
    return f"{_name(row)} holds no better and worse answer"


def as_json(value: object) -> str:
    """Return one line of JSON."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a character, which only stands there as its escape
        return json.dumps(value)
    return line
