"""Formats with one column for what is asked and one for what is answered."""

from __future__ import annotations

from collections.abc import Callable

from tunefork.core.errors import Where
from tunefork.data._messages import read_text
from tunefork.data.example import Example, Message
from tunefork.data.formats.form import Fields, Format, anything, fault, system_turn
from tunefork.data.formats.turns import is_turn_list, read_turns

_Build = Callable[[Fields, Where], Example]


def pair(user: str, assistant: str, system: str | None, history: str | None = None) -> _Build:
    """Return a builder for rows that name one column for each turn."""

    def build(fields: Fields, where: Where) -> Example:
        messages = [*system_turn(fields, system, where), *earlier_turns(fields, history, where)]
        messages.append(Message("user", read_text(fields[user], user, where)))
        messages.append(Message("assistant", read_text(fields[assistant], assistant, where)))
        return Example(tuple(messages), where)

    return build


def earlier_turns(fields: Fields, column: str | None, where: Where) -> list[Message]:
    """Return the turns before the last question: a list of [question, answer] pairs.

    Raises:
        DataError: where it is something else.
    """
    if column is None or not fields.get(column):
        return []
    rounds = fields[column]
    messages: list[Message] = []
    for at, item in enumerate(rounds if isinstance(rounds, list) else [None]):
        if not isinstance(item, list) or len(item) != 2:
            hint = 'write earlier rounds as [["question", "answer"], …]'
            raise fault(f"`{column}` must be a list of pairs", where, hint)
        for role, text in zip(("user", "assistant"), item, strict=True):
            messages.append(Message(role, read_text(text, f"{column}[{at}]", where)))
    return messages


def instruction_turn(fields: Fields, where: Where) -> Message:
    """Return the question of an alpaca row: its instruction, and its input where it has one."""
    question = read_text(fields["instruction"], "instruction", where)
    if fields.get("input") is not None and (more := read_text(fields["input"], "input", where)):
        question = f"{question}\n\n{more}"
    return Message("user", question)


def _from_instruction(fields: Fields, where: Where) -> Example:
    messages = [*system_turn(fields, "system", where), *earlier_turns(fields, "history", where)]
    messages.append(instruction_turn(fields, where))
    messages.append(Message("assistant", read_text(fields["output"], "output", where)))
    return Example(tuple(messages), where)


def _instances(fields: Fields, where: Where) -> list[Fields]:
    """Return one alpaca row for each instance of a task."""
    instances = fields.get("instances")
    sound = isinstance(instances, list) and all(
        isinstance(instance, dict) and "output" in instance for instance in instances
    )
    if not sound or not instances:
        hint = 'write them as [{"input": "…", "output": "…"}], at least one'
        raise fault("`instances` must be a list of inputs with outputs", where, hint)
    return [{**fields, "input": None, **instance} for instance in instances]


def _from_turn_lists(fields: Fields, where: Where) -> Example:
    prompt = read_turns(fields["prompt"], "prompt", where)
    return Example((*prompt, *answer_turns(fields["completion"], "completion", where)), where)


def answer_turns(value: object, name: str, where: Where) -> tuple[Message, ...]:
    """Return an answer's turns; the first is the assistant's.

    Raises:
        DataError: where it is not.
    """
    turns = read_turns(value, name, where)
    if turns[0].role != "assistant":
        hint = "the answer begins with a turn of the assistant"
        raise fault(f"`{name}` begins with a turn of the {turns[0].role}", where, hint)
    return turns


def _are_turn_lists(fields: Fields) -> bool:
    return is_turn_list(fields["prompt"]) and is_turn_list(fields["completion"])


# A column that a question may need beside it. Which way they are put together is not ours to say.
_BESIDE = {"context", "passage", "article", "document", "choices", "options", "documents"}


def _stands_alone(fields: Fields) -> bool:
    return not _BESIDE & {name.lower() for name in fields}


def _named(user: str, assistant: str, *, history: bool = False, alone: bool = False) -> Format:
    """Return the format of two columns; `alone` where another one beside them would count."""
    return Format(
        f"{user}/{assistant}",
        (user, assistant),
        pair(user, assistant, "system", "history" if history else None),
        uses=("system", "history") if history else ("system",),
        fits=_stands_alone if alone else anything,
        answer=assistant,
    )


PAIR_FORMATS = (
    Format(
        "prompt/completion turns", ("prompt", "completion"), _from_turn_lists, fits=_are_turn_lists
    ),
    Format(
        "instruction/instances",
        ("instruction", "instances"),
        _from_instruction,
        spread=_instances,
    ),
    _named("user", "assistant"),
    _named("prompt", "completion"),
    Format(
        "instruction/input/output",
        ("instruction", "output"),
        _from_instruction,
        uses=("input", "system", "history"),
        answer="output",
    ),
    _named("query", "response", history=True),
    _named("question", "answer", alone=True),
    _named("input", "output", alone=True),
)
