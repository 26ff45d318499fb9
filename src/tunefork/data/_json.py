"""Read JSON lines, which are streamed, and JSON, which is read whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.data._record import Record, json_kind
from tunefork.data._text import text_lines

_SPACE = re.compile(r"[ \t\n\r]*")


def read_jsonl(path: Path) -> Iterator[Record | DataError]:
    """Yield the object on each line; blank lines are none."""
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


def read_json(path: Path) -> Iterator[Record | DataError]:
    """Yield the objects of a list, or of the one list that an object holds."""
    text = "".join(line for _, line in text_lines(path))
    if not text.strip():
        return
    where = Where(str(path))
    whole = _parse(text, where, first_line=1)
    start = _SPACE.match(text).end()  # type: ignore[union-attr]  # matches the empty string too
    if isinstance(whole, dict):
        lists = [key for key, value in whole.items() if isinstance(value, list)]
        if any("file_name" in value for value in whole.values() if isinstance(value, dict)):
            raise DataError(
                "this names data sets, but holds no rows",
                where=where,
                hint="name one of the files that it lists",
            )
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
