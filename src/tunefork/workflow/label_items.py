"""What is to be labelled: prompts for models to answer, or pairs of answers that exist already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.core.events import Noted, Sink
from tunefork.core.hashing import hash_json
from tunefork.data import Message, Record, scan_records
from tunefork.data._messages import read_messages, read_text
from tunefork.data._text import text_lines
from tunefork.data.example import Preference, Row
from tunefork.data.recognise import scan_rows, without_faults
from tunefork.evaluation.lines import read_items

_ASKED = ("messages", "question", "prompt", "user")
_HINT = 'write {"question": "…"} or {"messages": […]}, or one prompt on each line of a `.txt` file'
_PAIR = 'write {"question": "…", "answers": [{"model": "…", "text": "…"}, …]}, two of them'


@dataclass(frozen=True)
class Candidate:
    """One of two answers, and who gave it where that is known."""

    model: str | None
    text: str


@dataclass(frozen=True)
class Item:
    """A prompt, and its two answers where they exist already.

    Attributes:
        prompt: The conversation up to the answer.
        answers: None where models are to give them.
        key: Equal for equal prompts with equal answers, whatever order these come in.
    """

    prompt: tuple[Message, ...]
    answers: tuple[Candidate, Candidate] | None
    key: str


def read_prompts(path: Path, sink: Sink) -> list[Item]:
    """Read prompts: a column `question`, `prompt`, `user` or `messages`, or lines of a text file.

    Of a conversation that ends with an answer, what comes before that is the prompt.

    Raises:
        DataError: The file cannot be read, lines of it hold no prompt, or there is none at all.
    """
    if path.suffix.lower() == ".txt":
        lines = [text.strip() for _, text in text_lines(path)]
        prompts: list[tuple[Message, ...]] = [(Message("user", line),) for line in lines if line]
    else:
        prompts = read_items(path, _prompt)
    return _distinct([_item(prompt, None) for prompt in prompts], path, sink)


def read_pairs(path: Path, sink: Sink) -> list[Item]:
    """Read pairs of answers: rows with `answers`, or any preference format.

    Raises:
        DataError: The file cannot be read, lines of it hold no pair, or there is none at all.
    """
    first = next(iter(scan_records(path)), None)
    if isinstance(first, Record) and "answers" in first.fields:
        return _distinct(read_items(path, _pair), path, sink)
    return _distinct(_preferences(path), path, sink)


def pair_key(prompt: Sequence[Message], texts: Sequence[str] | None) -> str:
    """Return the key of a prompt and its answers; None where these are not known yet."""
    return hash_json([[turn.as_template() for turn in prompt], texts and sorted(texts)])


def _item(prompt: tuple[Message, ...], answers: tuple[Candidate, Candidate] | None) -> Item:
    return Item(prompt, answers, pair_key(prompt, answers and [each.text for each in answers]))


def _distinct(items: list[Item], path: Path, sink: Sink) -> list[Item]:
    if not items:
        raise DataError("there is no prompt in it", where=path, hint=_HINT)
    found = {item.key: item for item in items}
    if len(found) < len(items):
        sink(Noted(f"{len(items) - len(found)} rows that repeat others are left out"))
    return list(found.values())


def _prompt(record: Record) -> tuple[Message, ...]:
    column = next((name for name in _ASKED if record.fields.get(name)), None)
    if column is None:
        raise DataError("the row holds no prompt", where=record.where, hint=_HINT)
    value = record.fields[column]
    if not isinstance(value, list):
        text = read_text(value, column, record.where)
        if not text.strip():
            raise DataError(f"`{column}` is empty", where=record.where, hint=_HINT)
        return (Message("user", text),)
    turns = read_messages(value, record.where)
    if turns[-1].role == "assistant":
        turns = turns[:-1]
    if not turns or turns[-1].role not in ("user", "tool"):
        hint = "end with what the model is to answer"
        raise DataError(f"`{column}` asks nothing", where=record.where, hint=hint)
    return turns


def _pair(record: Record) -> Item:
    prompt = _prompt(record)
    given = record.fields.get("answers")
    if not isinstance(given, list) or len(given) != 2:
        raise DataError("`answers` must be a list of two", where=record.where, hint=_PAIR)
    first, second = (_candidate(value, at, record.where) for at, value in enumerate(given))
    return _item(prompt, (first, second))


def _candidate(value: Any, at: int, where: Where) -> Candidate:  # any JSON value
    name = f"answers[{at}]"
    if not isinstance(value, dict):
        return Candidate(None, read_text(value, name, where))
    model = value.get("model")
    if model is not None:
        model = read_text(model, f"{name}.model", where)
    return Candidate(model, read_text(value.get("text"), f"{name}.text", where))


def _preferences(path: Path) -> list[Item]:
    return without_faults(
        row if isinstance(row, DataError) else _from_preference(row) for row in scan_rows(path)
    )


def _from_preference(row: Row) -> Item | DataError:
    if not isinstance(row, Preference):
        return DataError("the row holds no two answers", where=row.where, hint=_PAIR)
    sides = row.chosen, row.rejected
    if row.tools or any(len(side) != 1 or side[0].tool_calls for side in sides):
        return DataError(
            "its answers are more than one turn of text, which cannot be labelled",
            where=row.where,
            hint="leave out rows with tools, or with several turns after the prompt",
        )
    chosen, rejected = (Candidate(None, side[0].content) for side in sides)
    return _item(row.prompt, (chosen, rejected))
