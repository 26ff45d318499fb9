"""Read a table: the first line names the columns and shows what separates them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tunefork.core.errors import DataError, Where
from tunefork.data._text import text_lines

_SEPARATORS = ",;\t|"
# Python's own limit of 131,072 characters is less than a long document has.
_LONGEST_FIELD = 2**31 - 1


def table_rows(path: Path, usual: str) -> Iterator[tuple[dict[str, str], Where] | DataError]:
    """Yield each row by column, with its place, or in its place what is wrong with it.

    `usual` is what separates the columns where the first line does not say otherwise.

    Raises:
        DataError: where the table as a whole cannot be read.
    """
    csv.field_size_limit(_LONGEST_FIELD)  # of the whole process: it can only be raised there
    lines = (line for _, line in text_lines(path))
    blank: list[str] = []  # lines above the header, still counted
    first = ""
    for first in lines:
        if first.strip("\r\n"):
            break
        blank.append(first)
    # Strict, because otherwise an open quote silently swallows the rest of the file.
    rows = csv.reader(chain(blank, [first], lines), delimiter=_separator(first, usual), strict=True)
    header: list[str] = []
    while True:
        where = Where(str(path), rows.line_num + 1)
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"broken table row: {error}",
                where=where,
                hint='put a field with commas, quotes or line breaks in "…" and double its quotes',
            ) from error
        if not row:  # a blank line
            continue
        if not header:
            header = check_header(row, where)
        elif len(row) == len(header):
            yield dict(zip(header, row, strict=True)), where
        else:
            yield DataError(
                f"the row has {len(row)} fields, the header has {len(header)}",
                where=where,
                hint='put a field that holds the separator or a line break in "…"',
            )


def _separator(header: str, usual: str) -> str:
    """Return what cuts the header into the most names; the usual one where none does better."""
    found = usual
    most = max(len(_names(header, usual)), 1)
    for mark in _SEPARATORS:
        names = _names(header, mark)
        is_sound = all(names) and len(set(names)) == len(names)
        if len(names) > most and is_sound:
            found, most = mark, len(names)
    return found


def _names(header: str, mark: str) -> list[str]:
    try:
        row = next(csv.reader([header], delimiter=mark), [])
    except csv.Error:
        return []
    return [name.strip() for name in row]


def check_header(row: list[str], where: Where) -> list[str]:
    """Return the names of the columns.

    Raises:
        DataError: where two have the same.
    """
    names = [name.strip() for name in row]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(
            f"the header names column `{twice[0]}` twice",
            where=where,
            hint="the first line must name each column once",
        )
    return names
