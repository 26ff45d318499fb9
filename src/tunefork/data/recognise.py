"""Which of the known shapes a file's rows have, and the rows as what an objective can learn from.

Entry points: `scan_rows` for rows of any kind, `scan_examples` and `load_examples` for those of
conversations alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.data._record import Record
from tunefork.data.conversations import SHAPES
from tunefork.data.example import Example, Kind, Row
from tunefork.data.formats.form import Fields, Format, itself
from tunefork.data.formats.known import FORMATS, candidates
from tunefork.data.formats.mapped import mapped_format
from tunefork.data.formats.prompt import as_prompt
from tunefork.data.formats.unknown import column_list, unclear_shape, unknown_shape
from tunefork.data.read import data_files, scan_records

_R = TypeVar("_R")

__all__ = [
    "FORMATS",
    "Faults",
    "Fields",
    "Format",
    "Recognised",
    "load_examples",
    "recognise",
    "scan_examples",
    "scan_kind",
    "scan_rows",
    "without_faults",
]

_HEAD_ROWS = 20  # that decide the format
_MAX_DETAILS = 5


@dataclass(frozen=True)
class Recognised:
    """The format of a file, and what speaks for it."""

    file: Path
    format: Format
    columns: tuple[str, ...]  # that are read
    unused: tuple[str, ...]  # that are not
    n_rows: int  # that were looked at
    n_fit: int  # of them, those that have the format


def recognise(record_fields: Fields) -> Format | None:
    """Return the format of a row, or None where it has none, or more than one."""
    found = candidates(record_fields)
    return found[0] if len(found) == 1 else None


def scan_rows(
    path: Path,
    mapping: Mapping[str, str] | None = None,
    *,
    tell: Callable[[Recognised], None] = lambda _: None,
) -> Iterator[Row | DataError]:
    """Yield the rows of a file or folder, and in the place of each bad row its error.

    The first rows of a file decide its format and every row must fit it; further columns are
    ignored. `mapping` names the columns of a format we do not know: `{"user": …, "assistant": …}`
    and, if there is one, `"system"`; or those of another kind, see `docs/formats.md`. `tell` is
    told the format of each file before its rows come, and again where a later row has more columns.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: where a file as a whole cannot be read, or its format not be told. In a folder
            such a file is one bad row.
    """
    mapped = None if mapping is None else mapped_format(mapping)
    files, is_folder = data_files(path)
    for file in files:
        try:
            yield from _scan_file(file, mapped, tell)
        except DataError as error:
            if not is_folder:
                raise
            message = f"the whole file is left out: {error.message}"
            yield DataError(message, where=error.where, hint=error.hint, details=error.details)


def scan_kind(
    path: Path, kind: Kind, mapping: Mapping[str, str] | None = None
) -> Iterator[Row | DataError]:
    """Yield rows of a kind as `scan_rows` does; rows of another kind are one error, and the end.

    Where prompts are wanted, conversations are taken for such: their last answer is the reference.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: where the file as a whole cannot be read, or its format not be told.
    """
    told: list[Recognised] = []
    for row in scan_rows(path, mapping, tell=told.append):
        if kind == "prompts" and isinstance(row, Example):
            yield as_prompt(row)
            continue
        if told and told[-1].format.kind not in _taken_for(kind):
            yield _of_another_kind(told[-1], kind, row)
            return
        yield row


def scan_examples(
    path: Path, mapping: Mapping[str, str] | None = None
) -> Iterator[Example | DataError]:
    """Yield conversations; see `scan_kind`.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: where the file as a whole cannot be read, or its format not be told.
    """
    for row in scan_kind(path, "chat", mapping):
        assert isinstance(row, Example | DataError), "the format says what its rows become"
        yield row


def load_examples(path: Path, mapping: Mapping[str, str] | None = None) -> list[Example]:
    """Read a file into examples, in its order; see `scan_examples`.

    Raises:
        SpecError: where the mapping itself is wrong.
        DataError: with all bad rows of the file: the first in the message, more in `details`.
    """
    return without_faults(scan_examples(path, mapping))


def without_faults(rows: Iterable[_R | DataError]) -> list[_R]:
    """Return what was read, where all of it can be used.

    Raises:
        DataError: with all bad rows: the first in the message, more in `details`.
    """
    sound: list[_R] = []
    faults = Faults()
    for row in rows:
        if isinstance(row, DataError):
            faults.add(row)
        else:
            sound.append(row)
    faults.stop()
    return sound


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


def _scan_file(
    file: Path, mapped: Format | None, tell: Callable[[Recognised], None]
) -> Iterator[Row | DataError]:
    found = scan_records(file)
    head, broken = _head(found)
    rows = [row for row in head if isinstance(row, Record)]
    evidence = _told(file, mapped, rows, tell) if rows else None
    known: frozenset[str] = frozenset()  # the columns that were told
    for row in _then(head, broken, found):
        if isinstance(row, DataError):
            yield row
            continue
        if evidence is None:  # the first rows were all broken
            evidence = _told(file, mapped, [row], tell)
        if not row.fields.keys() <= known:
            known = frozenset((*evidence.columns, *evidence.unused))
            new = row.fields.keys() - known
            if new:  # a column that the first rows did not have
                evidence, known = _with_columns(evidence, new), known | new
                tell(evidence)
        if evidence.format.spread is itself:
            yield _build(evidence.format, row.fields, row.where)
        else:
            yield from _build_several(evidence.format, row)


def _told(
    file: Path, mapped: Format | None, rows: list[Record], tell: Callable[[Recognised], None]
) -> Recognised:
    form = _check_columns(mapped, rows[0]) if mapped else _decide(rows)
    evidence = _evidence(file, form, rows)
    tell(evidence)
    return evidence


def _head(found: Iterator[Record | DataError]) -> tuple[list[Record | DataError], DataError | None]:
    """Take the first rows, and what ended the file if it did not end well before that."""
    head: list[Record | DataError] = []
    try:
        head.extend(islice(found, _HEAD_ROWS))
    except DataError as error:
        return head, error
    return head, None


def _then(
    head: list[Record | DataError], broken: DataError | None, rest: Iterator[Record | DataError]
) -> Iterator[Record | DataError]:
    yield from head
    if broken is not None:
        raise broken
    yield from rest


def _decide(rows: list[Record]) -> Format:
    """Return the format that most rows have.

    Raises:
        DataError: where they have none, or more than one.
    """
    votes: dict[str, list[list[Format]]] = {}
    for row in rows:
        found = candidates(row.fields)
        if found:
            votes.setdefault("\n".join(map(_key, found)), []).append(found)
    if not votes:
        raise unknown_shape(rows)
    most = max(votes.values(), key=len)[0]  # of equally many the one that came first
    if len(most) > 1:
        raise unclear_shape(rows, most)
    return most[0]


def _key(form: Format) -> str:
    return f"{form.name} {form.required}"


def _evidence(file: Path, form: Format, rows: list[Record]) -> Recognised:
    there = list(dict.fromkeys(name for row in rows for name in row.fields))
    known = {*form.required, *form.uses}
    return Recognised(
        file=file,
        format=form,
        columns=tuple(name for name in there if name in known),
        unused=tuple(name for name in there if name not in known),
        n_rows=len(rows),
        n_fit=sum(form.takes(row.fields) for row in rows),
    )


def _with_columns(evidence: Recognised, new: set[str]) -> Recognised:
    known = {*evidence.format.required, *evidence.format.uses}
    return replace(
        evidence,
        columns=(*evidence.columns, *sorted(new & known)),
        unused=(*evidence.unused, *sorted(new - known)),
    )


def _check_columns(mapped: Format, first: Record) -> Format:
    for column in mapped.required:
        if column not in first.fields:
            near = did_you_mean(column, list(first.fields))
            raise DataError(
                f"there is no column `{column}`, which `data.map` names; "
                f"the columns are {column_list(first.fields)}",
                where=first.where,
                hint=near or "correct `data.map` in the spec",
            )
    return mapped


def _build(form: Format, fields: Fields, where: Where) -> Row | DataError:
    missing = [column for column in form.required if column not in fields]
    if missing:
        return DataError(
            f"the row has no `{missing[0]}`; the file's first rows have the format {form.name}",
            where=where,
            hint="write all rows in one format",
        )
    try:
        return form.build(fields, where)
    except DataError as error:
        return error


def _build_several(form: Format, record: Record) -> Iterator[Row | DataError]:
    """Yield the rows of a record that holds any number of them."""
    try:
        rows = form.spread(record.fields, record.where)
    except DataError as error:
        yield error
        return
    for fields in rows:
        yield _build(form, fields, record.where)


def _of_another_kind(found: Recognised, kind: Kind, row: Row | DataError) -> DataError:
    is_, wanted = SHAPES[found.format.kind], SHAPES[kind]
    hint = f"set `objective: {is_.objectives[0]}`"
    if kind == "chat" and is_.way_to_chat:
        hint += f", or `tunefork convert {found.file.name} --to chat` {is_.way_to_chat}"
    elif kind != "chat":
        hint += f", or bring {wanted.name}; docs/formats.md shows how they may be written"
    return DataError(
        f"the rows are {is_.name} (format: {found.format.name}), which "
        f"{_listed(is_.objectives)} from; {_listed(wanted.objectives)} from {wanted.name}",
        where=row.where,
        hint=hint,
    )


def _taken_for(kind: Kind) -> tuple[Kind, ...]:
    return ("prompts", "chat") if kind == "prompts" else (kind,)


def _listed(objectives: tuple[str, ...]) -> str:
    """Return who learns, as in "`dpo` and `orpo` learn"."""
    *others, last = (f"`{name}`" for name in objectives)
    return f"{', '.join(others)} and {last} learn" if others else f"{last} learns"
