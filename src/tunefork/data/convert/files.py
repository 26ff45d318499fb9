"""Write rows one by one into a file that is there whole in the end, or not at all."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TextIO, cast

from tunefork.core.errors import UsageError
from tunefork.core.files import new_file
from tunefork.data._compressed import ending
from tunefork.data.convert._parquet_out import ParquetRows
from tunefork.data.convert.shapes import Fields, as_json
from tunefork.data.convert.targets import Columns

WRITTEN_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
TABLES = (".csv", ".tsv")


class Rows(Protocol):
    """A file that takes rows."""

    def refusal(self, fields: Fields) -> str | None:
        """Say why a row cannot stand in this kind of file, or None where it can."""

    def write(self, fields: Fields) -> None:
        """Write a row."""

    def finish(self) -> None:
        """Write what belongs behind the last row."""

    def abandon(self) -> None:
        """Let go of a file that is not to be."""


def check_ending(out: Path) -> None:
    """Refuse a name that does not say how to write the file.

    Raises:
        UsageError: where it does not.
    """
    is_packed = out.suffix.lower() == ".gz"
    end = ending(out)
    if end not in WRITTEN_ENDINGS or (out.suffix.lower() != end and not is_packed):
        raise UsageError(
            f"cannot tell from `{out.name}` how to write it",
            hint=f"these endings are written: {', '.join(WRITTEN_ENDINGS)}, and .jsonl.gz",
        )
    if is_packed and end == ".parquet":
        raise UsageError("`.parquet` is packed in itself", hint="leave the `.gz` away")


@contextlib.contextmanager
def open_rows(out: Path, columns: Columns) -> Iterator[Rows]:
    """Open a file for rows; it takes its name when all went well.

    Raises:
        RunError: where it cannot be written.
    """
    with new_file(out) as file:
        rows = _rows(file, out, columns)
        try:
            yield rows
            rows.finish()
        except BaseException:
            # While the file is open: the libraries would write to it when they end.
            with contextlib.suppress(OSError, ValueError):
                rows.abandon()
            raise


@contextlib.contextmanager
def stdout_rows() -> Iterator[Rows]:
    """Write JSON lines to stdout."""
    rows = _Lines(sys.stdout, "", "\n", "\n")
    yield rows
    rows.finish()


def _rows(file: IO[bytes], out: Path, columns: Columns) -> Rows:
    end = ending(out)
    if end == ".parquet":
        return ParquetRows(file, columns)
    packed: IO[bytes] | None = None
    if out.suffix.lower() == ".gz":
        # Without a time and a name in it, so that the same rows make the same bytes.
        packed = cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=file, mtime=0))
    text = io.TextIOWrapper(packed or file, encoding="utf-8", newline="")
    if end in TABLES:
        return _Table(text, columns, "," if end == ".csv" else "\t", packed)
    if end == ".json":
        return _Lines(text, "[\n", ",\n", "\n]\n", packed)
    return _Lines(text, "", "\n", "\n", packed)


def _close(text: TextIO, packed: IO[bytes] | None) -> None:
    text.flush()
    if packed is not None:
        packed.close()
    if isinstance(text, io.TextIOWrapper) and text is not sys.stdout:
        with contextlib.suppress(ValueError):  # a packed file is closed already
            text.detach()


class _Lines:
    """JSON, a row on each line."""

    def __init__(
        self, file: TextIO, begin: str, between: str, end: str, packed: IO[bytes] | None = None
    ) -> None:
        self._file, self._before, self._between, self._end = file, begin, between, end
        self._packed = packed

    def refusal(self, fields: Fields) -> str | None:
        """Hold every row."""
        return None

    def write(self, fields: Fields) -> None:
        self._file.write(self._before + as_json(fields))
        self._before = self._between

    def finish(self) -> None:
        self._file.write(self._end)
        _close(self._file, self._packed)

    def abandon(self) -> None:
        _close(self._file, self._packed)


class _Table:
    """A table, with a header."""

    def __init__(
        self, file: TextIO, columns: Columns, mark: str, packed: IO[bytes] | None = None
    ) -> None:
        self._file, self._columns, self._packed = file, columns, packed
        names = list(columns)
        self._writer = csv.DictWriter(file, names, delimiter=mark, lineterminator="\n")
        # A carriage return that is not its line's end is not quoted by the other.
        self._quoting = csv.DictWriter(
            file, names, delimiter=mark, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        self._writer.writeheader()

    def refusal(self, fields: Fields) -> str | None:
        others = fields.keys() - self._columns.keys()
        if others:
            return "the table has other columns, as its first row is of another kind"
        if any(isinstance(value, list | dict) for value in fields.values()):
            return "a list, which no field of a table holds; write JSON lines or Parquet"
        if any("\0" in value for value in fields.values() if isinstance(value, str)):
            return "a zero character, which no table holds"
        return None

    def write(self, fields: Fields) -> None:
        cells = {name: _cell(value) for name, value in fields.items()}
        needs_quotes = any("\r" in cell for cell in cells.values())
        (self._quoting if needs_quotes else self._writer).writerow(cells)

    def finish(self) -> None:
        _close(self._file, self._packed)

    abandon = finish


def _cell(value: Any) -> str:  # text, or true or false
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
