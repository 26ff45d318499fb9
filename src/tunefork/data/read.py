"""Read any supported file into records that know their line. What the fields mean: `recognise`.

JSONL and CSV are streamed. A fault of the file as a whole is raised; a fault of one row is
handed on by `scan_records`, so that a caller can report every bad row in one pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.data._table import table_rows
from tunefork.data._text import text_lines, unreadable

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Record:
    """The fields of one row as read, and the line it begins on."""

    fields: dict[str, Any]  # any JSON value; always text in a CSV file
    where: Where


def read_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a `.jsonl`, `.ndjson`, `.json`, `.csv` or `.tsv` file.

    Raises:
        DataError: at the first row or file fault, with file, line and what to do.
    """
    for found in scan_records(path):
        if isinstance(found, DataError):
            raise found
        yield found


def scan_records(path: Path) -> Iterator[Record | DataError]:
    """Yield the rows of a file, and in the place of each row that cannot be read its error.

    Raises:
        DataError: where the file as a whole cannot be read.
    """
    try:
        read = _reader(path)
    except OSError as error:
        raise unreadable(path, error) from error
    n_rows = 0
    for found in read(path):
        n_rows += 1
        yield found
    if n_rows == 0:
        state = "is empty" if path.stat().st_size == 0 else "holds no rows"
        raise DataError(f"the file {state}", where=path, hint="put at least one row into it")


def _reader(path: Path) -> Callable[[Path], Iterator[Record | DataError]]:
    """Return the reader for a path, or say why there is none."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _READERS)
        some = ", ".join(f"`{name}`" for name in inside[:5])
        hint = f"name one of its files: {some}" if inside else "name a data file, not a folder"
        raise DataError("this is a folder, not a file", where=path, hint=hint)
    if not path.exists():
        raise DataError("there is no such file", where=path, hint=_hint_for_missing(path))
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        ending = f"the ending `{path.suffix}`" if path.suffix else "a file without an ending"
        raise DataError(
            f"cannot tell the format from {ending}",
            where=path,
            hint=f"these are read: {', '.join(_READERS)}; rename or convert the file",
        )
    return reader


def _hint_for_missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder `{path.parent}` either; check the path"
    names = [near.name for near in path.parent.iterdir() if near.is_file()]
    return did_you_mean(path.name, names) or "check the name and the folder you are in"


def _read_jsonl(path: Path) -> Iterator[Record | DataError]:
    for line, text in text_lines(path):
        if not text.strip():
            continue
        where = Where(str(path), line)
        try:
            value = _parse(text, where, first_line=line)
        except DataError as error:
            yield error
            continue
        if isinstance(value, dict):
            yield Record(value, where)
        elif isinstance(value, list):
            yield _not_an_object(
                value,
                where,
                "one object on each line; rename a file that holds one list to `.json`",
            )
        else:
            yield _not_an_object(value, where, 'write one object on each line: {"user": …}')


def _read_json(path: Path) -> Iterator[Record | DataError]:
    text = "".join(line for _, line in text_lines(path))
    if not text.strip():
        return
    where = Where(str(path))
    whole = _parse(text, where, first_line=1)
    start = _SPACE.match(text).end()  # type: ignore[union-attr]  # matches the empty string too
    if isinstance(whole, dict):
        lists = [key for key, value in whole.items() if isinstance(value, list)]
        if len(lists) != 1:
            raise DataError(
                f"the object holds {len(lists)} lists, so it is not clear which one is the rows",
                where=where,
                hint="write a list of objects, or an object that holds one list",
            )
        start = _start_of_list(text, start, lists[0])
    elif not isinstance(whole, list):
        raise _not_an_object(whole, where, "write a list of objects")
    yield from _list_items(text, start, path)


def _start_of_list(text: str, start: int, wanted: str) -> int:
    """Return where the list under a key of the (valid) object at `start` begins."""
    decoder = json.JSONDecoder()
    at = start + 1
    found = -1
    while True:
        at = _skip(text, at)
        if text[at] == "}":
            return found
        key, at = decoder.raw_decode(text, _skip(text, at + 1) if text[at] == "," else at)
        at = _skip(text, _skip(text, at) + 1)
        if key == wanted:
            found = at  # the last one counts, as in Python's own reader
        at = decoder.raw_decode(text, at)[1]


def _list_items(text: str, start: int, path: Path) -> Iterator[Record | DataError]:
    """Yield the items of the (valid) list at `start`, each with its line."""
    decoder = json.JSONDecoder()
    counted_to, line = 0, 1
    at = _skip(text, start + 1)
    while text[at] != "]":
        line += text.count("\n", counted_to, at)
        counted_to = at
        value, at = decoder.raw_decode(text, at)
        where = Where(str(path), line)
        if isinstance(value, dict):
            yield Record(value, where)
        else:
            yield _not_an_object(value, where, "each item of the list must be an object")
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _parse(text: str, where: Where, first_line: int) -> Any:  # a JSON value has no type
    try:
        return json.loads(text.rstrip())  # so that no fault lies behind the last line
    except json.JSONDecodeError as error:
        line = Where(where.file, first_line + error.lineno - 1)
        if where.line is None and error.msg == "Extra data":
            hint = "if each line holds one object, rename the file to `.jsonl`"
        elif where.line is not None and text.strip() in ("{", "["):
            hint = "write each object on one line of its own, or rename the file to `.json`"
        else:
            hint = "correct this line; quotes, commas and brackets must be complete"
        message = f"broken JSON, column {error.colno}: {error.msg}"
        raise DataError(message, where=line, hint=hint) from error
    except RecursionError as error:
        message = "broken JSON: nested too deeply"
        raise DataError(message, where=where, hint="flatten this row") from error
    except ValueError as error:  # a number with thousands of digits
        hint = "write such a number as text"
        raise DataError(f"broken JSON: {error}", where=where, hint=hint) from error


def _not_an_object(value: object, where: Where, hint: str) -> DataError:
    return DataError(f"{json_kind(value)} stands here, not an object", where=where, hint=hint)


def json_kind(value: object) -> str:
    """Return what a JSON value is, in words: `a list`, `null`, ...."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    for kind, name in ((str, "text"), (list, "a list"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return "a number"


def _read_csv(path: Path) -> Iterator[Record | DataError]:
    yield from _read_table(path, ",")


def _read_tsv(path: Path) -> Iterator[Record | DataError]:
    yield from _read_table(path, "\t")


def _read_table(path: Path, separator: str) -> Iterator[Record | DataError]:
    for found in table_rows(path, separator):
        yield found if isinstance(found, DataError) else Record(*found)


_READERS: dict[str, Callable[[Path], Iterator[Record | DataError]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}
