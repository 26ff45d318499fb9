"""Rows that are rendered as conversations, and the conversations that each becomes.

An objective learns from one kind of row. What differs between the kinds is said here alone: how
many conversations a row becomes, and what of them is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunefork.data.example import Example, Judged, Kind, Labelled, Message, Preference, Row


@dataclass(frozen=True)
class Shape:
    """What a row of one kind becomes."""

    n_rows: int  # rows of tokens
    name: str  # what its rows are, as in "the rows are …"
    objectives: tuple[str, ...]  # that learn from it
    way_to_chat: str  # what `convert --to chat` makes of it; empty where it cannot


SHAPES: dict[Kind, Shape] = {
    "chat": Shape(1, "conversations", ("sft",), ""),
    "preference": Shape(
        2,
        "better and worse answers",
        ("dpo", "orpo", "simpo", "reward"),
        "takes the better answers",
    ),
    "judged": Shape(1, "answers judged good or bad", ("kto",), "takes the good answers"),
    "labelled": Shape(1, "texts with a label", ("classify",), "makes the label the answer"),
    "text": Shape(1, "plain texts", ("pretrain",), ""),
    "prompts": Shape(1, "prompts without an answer", ("grpo", "ppo"), ""),
}


def conversations(row: Row) -> tuple[Example, ...]:
    """Return the conversations that a row becomes, each a row of tokens later.

    A text and a prompt have none: they are no whole conversations.

    Of an answer to be compared or judged, the answer alone carries weight, not earlier turns. The
    label of a text is its answer.
    """
    if isinstance(row, Example):
        return (row,)
    if isinstance(row, Preference):
        return tuple(_answered(row, answer) for answer in (row.chosen, row.rejected))
    if isinstance(row, Judged):
        return (_answered(row, row.completion),)
    if isinstance(row, Labelled):
        return (Example((Message("user", row.text), Message("assistant", row.label)), row.where),)
    return ()


def _answered(row: Preference | Judged, answer: tuple[Message, ...]) -> Example:
    before = tuple(replace(turn, weight=0.0) for turn in row.prompt)
    return Example((*before, *answer), row.where, row.tools)
