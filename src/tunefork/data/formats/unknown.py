"""What is said about rows whose format is not known, or is not clear: show them, ask for a map."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from tunefork.core.errors import DataError
from tunefork.data._record import Record
from tunefork.data.formats.form import Fields, Format
from tunefork.data.formats.known import FORMATS
from tunefork.data.formats.mapped import map_option, map_text

_SHOWN_ROWS, _SHOWN_COLUMNS, _SHOWN_CHARACTERS = 3, 12, 40
# Column names seen in the wild, the likeliest first; used only to suggest a map.
_USUAL_NAMES = {
    "user": (
        *("user", "prompt", "instruction", "question", "query", "input", "human"),
        *("mr", "source", "problem", "statement", "text"),
    ),
    "assistant": (
        *("assistant", "response", "answer", "output", "completion", "reply", "target"),
        *("solution", "ground_truth", "ref", "reference", "summary", "translation"),
    ),
    "system": ("system", "system_prompt"),
}
_QUESTIONS = (
    "nothing can be learned from questions alone; as golden questions write each as "
    '{"question": "…", "reference": "…", "grader": "…"}'
)
# Known shapes that are no training rows: columns, what they hold, what to do.
_NO_ROWS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("question_id", "turns"), "questions without answers", _QUESTIONS),
    (("prompt", "instruction_id_list"), "questions without answers", _QUESTIONS),
    (
        ("question_id", "choices"),
        "answers without their questions",
        "put each beside its question, as {user: …, assistant: …}; `question_id` says which it is",
    ),
    (
        ("question", "answer_matching_behavior", "answer_not_matching_behavior"),
        "a question and two answers; which of them is wanted is yours to say",
        "to prefer the behaviour: data: {map: {user: question, chosen: answer_matching_behavior, "
        "rejected: answer_not_matching_behavior}} in the spec, or `--map user=question,"
        "chosen=answer_matching_behavior,rejected=answer_not_matching_behavior`; else swap the two",
    ),
    (
        ("prompt_conversation", "completion_A", "completion_B"),
        "two answers and which one won",
        "write them as {prompt: …, chosen: …, rejected: …}",
    ),
    (
        ("prompt", "answers"),
        "a question and several answers",
        "write the best and the worst as {prompt: …, chosen: …, rejected: …}",
    ),
    (
        ("context", "question", "answers"),
        "questions about a text, with several answers each",
        "write one row for each: {user: context and question, assistant: answer}",
    ),
    (
        ("tokens", "ner_tags"),
        "words and their tags",
        'write each sentence as one row: {"user": SENTENCE, "assistant": "person: Ann"}',
    ),
)


def unknown_shape(rows: Sequence[Record]) -> DataError:
    """Return the error for rows that fit no known format."""
    first = rows[0]
    for columns, what, hint in _NO_ROWS:
        if all(column in first.fields for column in columns):
            return DataError(
                f"these rows are {what}; the columns are {column_list(first.fields)}",
                where=first.where,
                hint=hint,
                details=_shown(rows),
            )
    shapes = {known.name: known.required for known in reversed(FORMATS)}
    needs = dict.fromkeys(" + ".join(map("`{}`".format, shapes[key])) for key in reversed(shapes))
    listed = "; ".join(needs)
    return DataError(
        f"no known format has these columns: {column_list(first.fields)}",
        where=first.where,
        hint=_remedy(list(first.fields)),
        details=(f"known formats need: {listed}", *_shown(rows)),
    )


def unclear_shape(rows: Sequence[Record], found: Sequence[Format]) -> DataError:
    """Return the error for rows that fit several formats."""
    first = rows[0]
    names = " and ".join(f"`{form.name}`" for form in found)
    maps = [{"user": form.required[0], "assistant": form.required[-1]} for form in found]
    return DataError(
        f"these rows fit {names}, so it is not clear what should be learned",
        where=first.where,
        hint="say it: " + " or ".join(_both_ways(mapping) for mapping in maps),
        details=_shown(rows),
    )


def column_list(fields: Fields) -> str:
    """Return the names of a row's columns, of many only the first."""
    names = [f"`{name}`" for name in fields]
    cut = len(names) - _SHOWN_COLUMNS
    more = f" and {cut} more" if cut > 0 else ""
    return (", ".join(names[:_SHOWN_COLUMNS]) or "none") + more


def _shown(rows: Sequence[Record]) -> tuple[str, ...]:
    """Return the first rows, a line for each."""
    return tuple(
        f"{row.where}: "
        + ", ".join(
            f"{name} = {_cut(value)}" for name, value in list(row.fields.items())[:_SHOWN_COLUMNS]
        )
        for row in rows[:_SHOWN_ROWS]
        if row.fields
    )


def _cut(value: Any) -> str:  # any JSON value
    text = " ".join(repr(value if not isinstance(value, str) else value[:200]).split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _both_ways(mapping: dict[str, str]) -> str:
    return f"data: {{map: {map_text(mapping)}}} in the spec, `{map_option(mapping)}` in a command"


def _remedy(columns: list[str]) -> str:
    """Return what to do about unknown columns: the very map to write, where one can be guessed."""
    by_lower = {column.lower(): column for column in reversed(columns)}
    guess: dict[str, str] = {}
    for key in ("user", "assistant", "system"):
        for usual in _USUAL_NAMES[key]:
            if usual in by_lower and by_lower[usual] not in guess.values():
                guess[key] = by_lower[usual]
                break
    if {"user", "assistant"} <= guess.keys():
        return f"if that is what they mean, write {_both_ways(guess)}"
    for known in FORMATS:
        for wanted in known.required:
            near = get_close_matches(wanted, columns, n=1, cutoff=0.8)
            if near and wanted not in columns:
                return f"rename the column `{near[0]}` to `{wanted}`, if that is what it means"
    if {"text", "category"} <= set(columns):
        return "write `--map text=text,label=category` for labels, `--map text=text` for the text"
    return (
        "name the columns in the spec: data: {map: {user: COLUMN, assistant: COLUMN}}, "
        "or in a command: `--map user=COLUMN,assistant=COLUMN`"
    )
