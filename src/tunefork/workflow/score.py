"""`score`: what a model makes of given rows: rewards, labels, or how likely it finds an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tunefork.core.errors import DataError
from tunefork.core.events import Progress, Sink
from tunefork.data import Example, Message
from tunefork.data.conversations import conversations
from tunefork.data.example import Labelled, Prompt, Row, Text
from tunefork.data.recognise import scan_rows, without_faults
from tunefork.inference import ChatModel, Classifier, RewardModel, score_conversations
from tunefork.workflow.opened import open_model

_Tell = Callable[[int], None]


@dataclass(frozen=True)
class _Scores:
    """Numbers of answers, of each row one or two, and what they are."""

    unit: str
    values: list[list[float]]


def score(name: str, path: Path, mapping: Mapping[str, str] | None, sink: Sink) -> dict[str, Any]:
    """Return what a model makes of each row of a file.

    A reward model gives each answer its reward, a classifier each text its labels; any other model
    tells how likely it finds each answer, per token. Of pairs the share is told whose better
    answer is ahead, of texts with labels the share whose labels are told exactly.

    Raises:
        InputError: The file or the model cannot be used.
    """
    rows = _read(path, mapping)
    chat = open_model(name).chat

    def tell(done: int) -> None:
        sink(Progress("scoring", done, len(rows)))

    if isinstance(chat, Classifier):
        return {"model": name, "unit": "label", **_labels(chat, rows, tell)}
    found = _scores(chat, rows, tell)
    ahead = [float(values[0] > values[1]) for values in found.values if len(values) == 2]
    return {
        "model": name,
        "unit": found.unit,
        "rows": [
            {"where": str(row.where), "scores": values}
            for row, values in zip(rows, found.values, strict=True)
        ],
        "mean": fmean(values[0] for values in found.values),
        "better_ahead": fmean(ahead) if ahead else None,
    }


def _read(path: Path, mapping: Mapping[str, str] | None) -> list[Row]:
    rows: list[Row] = without_faults(scan_rows(path, mapping))
    if not rows:
        raise DataError("there is no row to score", where=path, hint="bring rows")
    return rows


def _labels(chat: Classifier, rows: Sequence[Row], tell: _Tell) -> dict[str, Any]:
    told = chat.classify([_asked(row) for row in rows], tell)
    found = [
        {
            "where": str(row.where),
            "labels": [label.name for label in each.labels],
            "probabilities": [label.probability for label in each.labels],
            "likeliest": each.best.name,
            "probability": each.best.probability,
        }
        for row, each in zip(rows, told, strict=True)
    ]
    known = [row for row in rows if isinstance(row, Labelled)]
    if len(known) < len(rows):
        return {"rows": found, "accuracy": None}
    right = [
        set((row.label,) if row.listed is None else row.listed)
        == {label.name for label in each.labels}
        for row, each in zip(known, told, strict=True)
    ]
    return {"rows": found, "accuracy": fmean(right)}


def _asked(row: Row) -> Sequence[Message]:
    """Return what a classifier looks at: the text, or what stands before an answer."""
    if isinstance(row, Labelled | Text):
        return [Message("user", row.text)]
    if isinstance(row, Prompt):
        return row.messages
    return conversations(row)[0].prompt


def _scores(chat: ChatModel, rows: Sequence[Row], tell: _Tell) -> _Scores:
    examples = [_answers(row) for row in rows]
    flat = [example for own in examples for example in own]
    per_row = len(flat) / len(rows)

    def told(done: int) -> None:
        tell(int(done / per_row))

    if isinstance(chat, RewardModel):
        unit = "reward"
        values = score_conversations(chat, [example.messages for example in flat], told)
    else:
        unit = "log-probability per token"
        values = [found.mean for found in chat.score(flat, on_rows=told)]
    left = iter(values)
    return _Scores(unit, [[next(left) for _ in own] for own in examples])


def _answers(row: Row) -> tuple[Example, ...]:
    """Return the conversations of a row, each up to an answer.

    Raises:
        DataError: It has no answer.
    """
    if isinstance(row, Text | Prompt):
        raise DataError(
            f"a {'plain text' if isinstance(row, Text) else 'prompt alone'} has no answer to score",
            where=row.where,
            hint='write rows as {"user": "…", "assistant": "…"}, or as pairs of answers',
        )
    return conversations(row)
