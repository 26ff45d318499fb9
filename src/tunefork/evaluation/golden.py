"""Golden questions: what a tuned model is judged by, and never trained on.

One JSON object per line: `{"question": "…" | "messages": […], "reference": "…",
"grader": NAME or OBJECT, "group": "…", "item": {…}}`. Entry point: `load_golden`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.data.prompts import Prompts
from tunefork.data.read import Record
from tunefork.evaluation.lines import read_items
from tunefork.graders import Grader, parse_grader

_KNOWN = ["grader", "group", "item", "messages", "question", "reference"]
_ROLES = ("system", "developer", "user", "assistant")
_SHORT_REFERENCE_WORDS = 6
_SHAPE = 'write each line as {"question": "…", "reference": "…"}'
_TURNS = 'write turns as [{"role": "user", "content": "…"}]'


@dataclass(frozen=True)
class GoldenQuestion:
    """One question and how its answer is marked.

    Attributes:
        messages: The conversation up to the answer: `role` and `content` of each turn.
        reference: A right answer, where there is one.
        grader: Marks an answer.
        group: The fact it asks about; paraphrases of one fact share it.
        where: Its file and line.
        text: The last user turn.
    """

    messages: tuple[dict[str, str], ...]
    reference: str | None
    grader: Grader
    group: str
    where: Where
    text: str


def load_golden(path: Path) -> list[GoldenQuestion]:
    """Read golden questions.

    A question without `grader` gets `contains` where its reference is short (at most 6
    words), otherwise `similarity`. Without `group` it is a group of its own: the group is
    the question's text.

    Raises:
        DataError: The file cannot be read, or lines of it cannot be used; all bad lines are
            in the one error.
    """
    return read_items(path, golden_question)


def leaked(golden: Iterable[GoldenQuestion], asked: Prompts) -> list[GoldenQuestion]:
    """Return the golden questions whose text is also a training prompt."""
    return [question for question in golden if question.text in asked]


def golden_question(record: Record) -> GoldenQuestion:
    """Return the golden question that a line holds.

    Raises:
        DataError: It holds none.
    """
    # An empty cell of a table stands for a field that is not there.
    fields = {key: value for key, value in record.fields.items() if value not in (None, "")}
    where = record.where
    for key in fields:
        if key not in _KNOWN:
            hint = did_you_mean(key, _KNOWN) or "known are " + ", ".join(_KNOWN)
            raise DataError(f"unknown field `{key}` in a golden question", where=where, hint=hint)
    messages = _messages(fields, where)
    text = messages[-1]["content"]
    reference = _text_field(fields, "reference", where)
    value = fields.get("grader")
    grader = (
        _default_grader(reference, where)
        if value is None
        else parse_grader(value, reference=reference, where=where, item=_item(fields, text, where))
    )
    group = _text_field(fields, "group", where) or text
    return GoldenQuestion(messages, reference, grader, group, where, text)


def _default_grader(reference: str | None, where: Where) -> Grader:
    if reference is None:
        raise DataError(
            "the question has neither `reference` nor `grader`",
            where=where,
            hint='add the right answer: "reference": "…"',
        )
    name = "contains" if len(reference.split()) <= _SHORT_REFERENCE_WORDS else "similarity"
    return parse_grader(name, reference=reference, where=where)


def _messages(fields: dict[str, Any], where: Where) -> tuple[dict[str, str], ...]:
    if ("question" in fields) == ("messages" in fields):
        raise DataError("give either `question` or `messages`", where=where, hint=_SHAPE)
    if "question" in fields:
        text = fields["question"]
        if not isinstance(text, str) or not text.strip():
            raise DataError("`question` must be text", where=where, hint=_SHAPE)
        return ({"role": "user", "content": text},)
    turns = fields["messages"]
    if not isinstance(turns, list) or not turns:
        raise DataError("`messages` must be a list of turns", where=where, hint=_TURNS)
    messages = tuple(_turn(turn, index, where) for index, turn in enumerate(turns))
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise DataError(
            "the last of `messages` must be a user turn with text",
            where=where,
            hint="end with the question; the right answer goes into `reference`",
        )
    return messages


def _turn(turn: object, index: int, where: Where) -> dict[str, str]:
    place = f"`messages[{index}]`"
    if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
        raise DataError(
            f"{place} must have `role` and `content`, nothing else", where=where, hint=_TURNS
        )
    if turn["role"] not in _ROLES:
        known = ", ".join(_ROLES)
        raise DataError(f"{place}: `role` must be one of {known}", where=where, hint=_TURNS)
    if not isinstance(turn["content"], str):
        raise DataError(f"{place}: `content` must be text", where=where, hint=_TURNS)
    return {"role": turn["role"], "content": turn["content"]}


def _item(fields: dict[str, Any], text: str, where: Where) -> dict[str, Any]:
    """Return what graders may use of the question: its text, and the fields of `item`."""
    item = fields.get("item", {})
    if not isinstance(item, dict):
        raise DataError("`item` must be an object", where=where, hint='write {"source": "…"}')
    return {**item, "question": text}


def _text_field(fields: dict[str, Any], name: str, where: Where) -> str | None:
    value = fields.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # `"reference": 42` can mean only one thing
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise DataError(f"`{name}` must be text", where=where, hint=f'write `{name}` as "…"')
