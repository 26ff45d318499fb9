"""Read any supported file or folder into records that know their line.

What the fields mean: `recognise`. All but `.json` is streamed. A fault of the file as a whole is
raised; a fault of one row is handed on by `scan_records`, so that a caller can report every bad
row in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tunefork.core.errors import DataError, did_you_mean
from tunefork.data._compressed import ending, is_packed
from tunefork.data._folder import files_in
from tunefork.data._json import read_json, read_jsonl
from tunefork.data._parquet import read_parquet
from tunefork.data._plain import read_text_file
from tunefork.data._record import Record, json_kind
from tunefork.data._refused import refused
from tunefork.data._sheet import read_sheet
from tunefork.data._table import table_rows
from tunefork.data._text import unreadable

__all__ = [
    "READ_ENDINGS",
    "Record",
    "data_files",
    "json_kind",
    "left_files",
    "read_records",
    "scan_records",
]

_Reader = Callable[[Path], Iterator[Record | DataError]]


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file, or of all files of a folder; `READ_ENDINGS` says of which.

    Raises:
        DataError: at the first row or file fault, with file, line and what to do.
    """
    for found in scan_records(path):
        if isinstance(found, DataError):
            raise found
        yield found


def scan_records(path: Path) -> Iterator[Record | DataError]:
    """Yield the rows, and in the place of each row that cannot be read its error.

    In a folder, a file that cannot be read is one such row.

    Raises:
        DataError: where the file as a whole cannot be read.
    """
    files, is_folder = data_files(path)
    for file in files:
        try:
            yield from _scan_file(file)
        except DataError as error:
            if not is_folder:
                raise
            yield error


def data_files(path: Path) -> tuple[list[Path], bool]:
    """Return the files to read, in order, and whether the path is a folder of them.

    Raises:
        DataError: where there is nothing to read.
    """
    try:
        if not path.is_dir():
            return [path], False
        return files_in(path, READ_ENDINGS).read, True
    except OSError as error:
        raise unreadable(path, error) from error


def left_files(path: Path) -> list[Path]:
    """Return the files of a folder that are not read; see `_folder`."""
    return files_in(path, READ_ENDINGS).left if path.is_dir() else []


def _scan_file(path: Path) -> Iterator[Record | DataError]:
    try:
        read = _reader(path)
    except OSError as error:
        raise unreadable(path, error) from error
    n_rows = 0
    try:
        for found in read(path):
            n_rows += 1
            yield found
    except OSError as error:
        raise unreadable(path, error) from error
    if n_rows == 0:
        state = "is empty" if path.stat().st_size == 0 else "holds no rows"
        raise DataError(f"the file {state}", where=path, hint="put at least one row into it")


def _reader(path: Path) -> _Reader:
    """Return the reader for a path, or say why there is none."""
    if not path.exists():
        raise DataError("there is no such file", where=path, hint=_hint_for_missing(path))
    end = ending(path)
    reader = _READERS.get(end)
    if reader is not None and is_packed(path) and end in (".parquet", ".xlsx"):
        raise DataError(
            f"`{end}` is packed in itself; the ending `{path.suffix}` is one too many",
            where=path,
            hint="unpack it first",
        )
    if reader is None:
        known = refused(path, end) or refused(path, path.suffix.lower())
        if known is not None:
            raise known
        said = f"the ending `{path.suffix}`" if path.suffix else "a file without an ending"
        raise DataError(
            f"cannot tell the format from {said}",
            where=path,
            hint=f"these are read: {', '.join(READ_ENDINGS)}, also packed as .gz or .zst; "
            "rename or convert the file",
        )
    return reader


def _hint_for_missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder `{path.parent}` either; check the path"
    names = [near.name for near in path.parent.iterdir() if near.is_file()]
    return did_you_mean(path.name, names) or "check the name and the folder you are in"


def _read_csv(path: Path) -> Iterator[Record | DataError]:
    yield from _read_table(path, ",")


def _read_tsv(path: Path) -> Iterator[Record | DataError]:
    yield from _read_table(path, "\t")


def _read_table(path: Path, separator: str) -> Iterator[Record | DataError]:
    for found in table_rows(path, separator):
        yield found if isinstance(found, DataError) else Record(*found)


_READERS: dict[str, _Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": read_parquet,
    ".xlsx": read_sheet,
    ".txt": read_text_file,
    ".md": read_text_file,
}
READ_ENDINGS = tuple(_READERS)
