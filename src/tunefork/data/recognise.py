"""Which of the known shapes a file's rows have, and the rows as examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, SpecError, Where, did_you_mean
from tunefork.core.hashing import canonical_json
from tunefork.data._messages import read_messages, read_text, read_tools
from tunefork.data.example import Example, Message
from tunefork.data.read import Record, scan_records

_MAX_DETAILS = 5
_MAP_KEYS = ("assistant", "system", "user")
# Column names seen in the wild, the likeliest first; used only to suggest a `data.map`.
_USUAL_NAMES = {
    "user": ("user", "prompt", "instruction", "question", "query", "input", "human", "text"),
    "assistant": ("assistant", "response", "answer", "output", "completion", "reply", "target"),
    "system": ("system", "system_prompt"),
}

Fields = Mapping[str, Any]  # one row as read: any JSON values


@dataclass(frozen=True)
class Format:
    """A shape that rows can have: the columns it needs, and how a row becomes an example."""

    name: str
    required: tuple[str, ...]
    build: Callable[[Fields, Where], Example]


def recognise(record_fields: Fields) -> Format | None:
    """Return the first known format whose columns are all there, or None."""
    for known in FORMATS:
        if all(column in record_fields for column in known.required):
            return known
    return None


def scan_examples(
    path: Path, mapping: Mapping[str, str] | None = None
) -> Iterator[Example | DataError]:
    """Yield a file's rows as examples, and in the place of each bad row its error.

    The first row decides the format and every row must fit it; further columns are ignored.
    `mapping` names the columns of a format we do not know: `{"user": …, "assistant": …}` and,
    if there is one, `"system"`.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: where the file as a whole cannot be read.
    """
    mapped = None if mapping is None else _mapped(mapping)
    form: Format | None = None
    for found in scan_records(path):
        if isinstance(found, DataError):
            yield found
            continue
        try:
            if form is None:
                form = _decide(mapped, found)
            example = _build(form, found)
        except DataError as error:
            yield error
            if form is None:  # then no row of the file can be understood
                return
            continue
        yield example


def load_examples(path: Path, mapping: Mapping[str, str] | None = None) -> list[Example]:
    """Read a file into examples, in its order; see `scan_examples`.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: with all bad rows of the file: the first in the message, more in `details`.
    """
    examples: list[Example] = []
    faults = Faults()
    for found in scan_examples(path, mapping):
        if isinstance(found, DataError):
            faults.add(found)
        else:
            examples.append(found)
    faults.stop()
    return examples


class Faults:
    """All bad rows of a file, as one error; of many only the first are kept."""

    def __init__(self) -> None:
        self._first: list[DataError] = []
        self.count = 0

    def add(self, fault: DataError) -> None:
        """Count a bad row."""
        self.count += 1
        if self.count <= _MAX_DETAILS + 1:
            self._first.append(fault)

    def stop(self) -> None:
        """Go on only where there was none.

        Raises:
            DataError: with the first in the message, more in `details`.
        """
        if not self._first:
            return
        first, *rest = self._first
        details = [f"{fault.where}: {fault.message}" for fault in rest]
        if self.count > len(self._first):
            details.append(f"... and {self.count - len(self._first)} more")
        raise DataError(
            first.message, where=first.where, hint=first.hint, details=(*first.details, *details)
        )


def _decide(mapped: Format | None, first: Record) -> Format:
    """Return the format of a file by its first row."""
    if mapped is None:
        known = recognise(first.fields)
        if known is None:
            raise _unknown_shape(first)
        return known
    for column in mapped.required:
        if column not in first.fields:
            near = did_you_mean(column, list(first.fields))
            raise DataError(
                f"there is no column `{column}`, which `data.map` names; "
                f"the columns are {_column_list(first.fields)}",
                where=first.where,
                hint=near or "correct `data.map` in the spec",
            )
    return mapped


def _build(form: Format, record: Record) -> Example:
    missing = [column for column in form.required if column not in record.fields]
    if missing:
        raise DataError(
            f"the row has no `{missing[0]}`; the file's first row has the format {form.name}",
            where=record.where,
            hint="write all rows in one format",
        )
    return form.build(record.fields, record.where)


def _from_messages(fields: Fields, where: Where) -> Example:
    messages = read_messages(fields["messages"], where)
    if not any(message.role == "assistant" for message in messages):
        raise DataError(
            "no assistant turn, so there is nothing to learn",
            where=where,
            hint='end the conversation with {"role": "assistant", "content": "…"}, or remove it',
        )
    return Example(messages, where, read_tools(fields.get("tools"), where))


def _pair(user: str, assistant: str, system: str | None) -> Callable[[Fields, Where], Example]:
    """Return a builder for rows that name one column for each turn."""

    def build(fields: Fields, where: Where) -> Example:
        messages = _system(fields, system, where)
        messages.append(Message("user", read_text(fields[user], user, where)))
        messages.append(Message("assistant", read_text(fields[assistant], assistant, where)))
        return Example(tuple(messages), where)

    return build


def _from_instruction(fields: Fields, where: Where) -> Example:
    messages = _system(fields, "system", where)
    question = read_text(fields["instruction"], "instruction", where)
    if fields.get("input") is not None and (more := read_text(fields["input"], "input", where)):
        question = f"{question}\n\n{more}"
    messages.append(Message("user", question))
    messages.append(Message("assistant", read_text(fields["output"], "output", where)))
    return Example(tuple(messages), where)


def _system(fields: Fields, column: str | None, where: Where) -> list[Message]:
    """Return the system turn, or none where a row leaves it empty."""
    if column is None or fields.get(column) is None:
        return []
    text = read_text(fields[column], column, where)
    return [Message("system", text)] if text else []


FORMATS = (
    Format("messages", ("messages",), _from_messages),
    Format("user/assistant", ("user", "assistant"), _pair("user", "assistant", "system")),
    Format("prompt/completion", ("prompt", "completion"), _pair("prompt", "completion", None)),
    Format("instruction/input/output", ("instruction", "output"), _from_instruction),
)


def _mapped(mapping: Mapping[str, str]) -> Format:
    """Return the format that a `data.map` describes."""
    shape = "write it as {user: COLUMN, assistant: COLUMN}, and system: COLUMN if there is one"
    for key in mapping:
        if key not in _MAP_KEYS:
            hint = did_you_mean(key, list(_MAP_KEYS)) or shape
            raise SpecError(f"unknown key `{key}`", where="data.map", hint=hint)
    for key in ("user", "assistant"):
        if key not in mapping:
            raise SpecError(f"the key `{key}` is missing", where="data.map", hint=shape)
    user, assistant, system = mapping["user"], mapping["assistant"], mapping.get("system")
    required = tuple(column for column in (system, user, assistant) if column is not None)
    return Format(f"data.map {_map_text(mapping)}", required, _pair(user, assistant, system))


def _unknown_shape(record: Record) -> DataError:
    columns = list(record.fields)
    shapes = "; ".join(" + ".join(f"`{name}`" for name in known.required) for known in FORMATS)
    return DataError(
        f"no known format has these columns: {_column_list(record.fields)}",
        where=record.where,
        hint=_remedy(columns),
        details=(f"known formats need: {shapes}",),
    )


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
        return f"if that is what they mean, write in the spec: data: {{map: {_map_text(guess)}}}"
    for known in FORMATS:
        for wanted in known.required:
            near = get_close_matches(wanted, columns, n=1, cutoff=0.8)
            if near and wanted not in columns:
                return f"rename the column `{near[0]}` to `{wanted}`, if that is what it means"
    if "conversations" in columns:
        return "rename `conversations` to `messages`, its `from` to `role` and `value` to `content`"
    return "name the columns in the spec: data: {map: {user: COLUMN, assistant: COLUMN}}"


def _map_text(mapping: Mapping[str, str]) -> str:
    """Return the mapping as YAML; names that YAML could read otherwise are quoted."""
    quoted = {
        key: column if column.isidentifier() else canonical_json(column)
        for key, column in mapping.items()
    }
    return "{" + ", ".join(f"{key}: {column}" for key, column in quoted.items()) + "}"


def _column_list(fields: Fields) -> str:
    names = [f"`{name}`" for name in fields]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + more
