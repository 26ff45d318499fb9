"""Read a file of any known format, write its rows in another, and count what became of each."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tunefork.core.errors import DataError, UsageError
from tunefork.core.events import Progress, Sink, no_sink
from tunefork.data._compressed import ending, is_packed
from tunefork.data.convert.files import TABLES, Rows, check_ending, open_rows, stdout_rows
from tunefork.data.convert.shapes import Shape, table
from tunefork.data.convert.targets import (
    LISTED_LABELS,
    NATURAL_COLUMNS,
    TABLE_COLUMNS,
    TARGETS,
    Columns,
)
from tunefork.data.example import Kind, Labelled, Row
from tunefork.data.read import left_files
from tunefork.data.recognise import Recognised, scan_rows

_MOST_REASONS = 20
_LONG_BYTES = 8 << 20  # from here on the progress is told
_PROGRESS_EVERY = 2000  # rows
_BY_KIND: dict[Kind, str] = {
    "chat": "chat",
    "preference": "preference",
    "judged": "kto",
    "labelled": "labels",
    "text": "text",
    "prompts": "prompts",
}


@dataclass
class Counts:
    """What became of the rows: `rows` = `kept` + `refused`."""

    rows: int = 0
    kept: int = 0
    refused: int = 0
    written: int = 0  # rows of the new file: one may make two
    reasons: dict[str, list[str]] = field(default_factory=dict)  # why, and where at first
    n_of_reason: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # what, of how many kept rows
    files: dict[str, Recognised] = field(default_factory=dict)
    left: tuple[str, ...] = ()  # files of a folder that are not read

    def refuse(self, reason: str, where: object) -> None:
        """Count a row that is not written."""
        self.refused += 1
        if reason not in self.reasons and len(self.reasons) >= _MOST_REASONS:
            reason = "other reasons"
        self.n_of_reason[reason] += 1
        named = self.reasons.setdefault(reason, [])
        if len(named) < 3:
            named.append(str(where))


def convert(
    path: Path,
    to: str,
    out: Path | None,
    *,
    mapping: Mapping[str, str] | None = None,
    is_strict: bool = False,
    sink: Sink = no_sink,
) -> Counts:
    """Write the rows of a file or folder in another format.

    Args:
        path: What to read.
        to: One of `TARGETS`.
        out: Where to; None writes JSON lines to stdout.
        mapping: See `scan_rows`.
        is_strict: Write nothing where one row has to be refused.
        sink: Told how far it is.

    Raises:
        UsageError: where `to` or `out` make no sense.
        SpecError: where the mapping is wrong.
        DataError: where the file cannot be read, or no row of it can be written.
        RunError: where the new file cannot be written.
    """
    target = TARGETS[to]
    is_table = out is not None and ending(out) in TABLES
    if out is not None:
        check_ending(out)
        if target.columns is None and ending(out) != target.ending:
            hint = f"name it `{out.with_suffix(target.ending).name}`, or choose another format"
            raise UsageError(f"`--to {to}` does not go with `{out.name}`", hint=hint)
    elif target.columns is None:
        raise UsageError(f"`--to {to}` needs a file", hint="name it with `--out FILE`")
    counts = Counts(left=tuple(map(str, left_files(path))))
    rows = _tell(path, scan_rows(path, mapping, tell=_note(counts)), sink)
    first = _first_row(rows, counts)
    if first is None:
        raise _nothing_kept(path, counts)
    shape, columns = _shape(to, first, is_table)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(stdout_rows() if out is None else open_rows(out, columns))
        for row in chain([first], rows):
            _write(row, shape, file, counts)
            if is_strict and counts.refused:
                raise _refused_one(counts)
        if not counts.kept:
            raise _nothing_kept(path, counts)
    return counts


def _shape(to: str, first: Row, is_table: bool) -> tuple[Shape, Columns]:
    target, kind = TARGETS[to], first.kind
    if is_table and (target.columns is None or to == _BY_KIND[kind]):
        # A table has columns of its own for whole conversations: one for each turn.
        return table, TABLE_COLUMNS[kind]
    has_list = isinstance(first, Labelled) and first.listed is not None
    if has_list and target.columns in (None, NATURAL_COLUMNS["labelled"]):
        return target.shape, LISTED_LABELS
    return target.shape, target.columns or NATURAL_COLUMNS[kind]


def _first_row(rows: Iterator[Row | DataError], counts: Counts) -> Row | None:
    for row in rows:
        if not isinstance(row, DataError):
            return row
        counts.rows += 1
        counts.refuse(row.message, row.where)
    return None


def _write(row: Row | DataError, shape: Shape, file: Rows, counts: Counts) -> None:
    counts.rows += 1
    if isinstance(row, DataError):
        counts.refuse(row.message, row.where)
        return
    held = shape(row)
    if isinstance(held, str):
        counts.refuse(held, row.where)
        return
    refusals = [reason for fields in held.rows if (reason := file.refusal(fields)) is not None]
    if refusals:
        counts.refuse(refusals[0], row.where)
        return
    for fields in held.rows:
        file.write(fields)
    counts.kept += 1
    counts.written += len(held.rows)
    counts.lost.update(held.lost)


def _note(counts: Counts) -> Callable[[Recognised], None]:
    def note(found: Recognised) -> None:
        counts.files[str(found.file)] = found

    return note


def _tell(path: Path, rows: Iterator[Row | DataError], sink: Sink) -> Iterator[Row | DataError]:
    """Yield the rows, and tell how far in a long file of lines they are."""
    n_lines = _count_lines(path)
    for number, row in enumerate(rows, start=1):
        yield row
        line = row.where.line if row.where else None
        if n_lines and line and number % _PROGRESS_EVERY == 0:
            sink(Progress(f"reading {path.name}", number, max(number, number * n_lines // line)))


def _count_lines(path: Path) -> int:
    """Return how many lines a long file has; 0 where it is short, or has none to count."""
    try:
        has_lines = path.is_file() and not is_packed(path) and ending(path) != ".parquet"
        if not has_lines or path.stat().st_size < _LONG_BYTES:
            return 0
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:  # the reader says what is wrong with it
        return 0


def _nothing_kept(path: Path, counts: Counts) -> DataError:
    first = next(iter(counts.reasons), "there is no row")
    return DataError(
        f"none of the {counts.rows:,} rows can be written: {first}",
        where=path,
        hint="choose another format with `--to`, or correct the rows",
        details=tuple(f"{counts.n_of_reason[why]:,} rows: {why}" for why in counts.reasons),
    )


def _refused_one(counts: Counts) -> DataError:
    reason, places = next(iter(counts.reasons.items()))
    return DataError(
        f"a row cannot be written: {reason}",
        where=places[0],
        hint="correct it, or leave `--strict` away to write the others",
    )
