"""One row of a file as it was read, before anybody knows what its fields mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import Where


@dataclass(frozen=True)
class Record:
    """The fields of one row as read, and the line it begins on."""

    fields: dict[str, Any]  # any JSON value; always text in a CSV file or a spreadsheet
    where: Where  # in files without lines (Parquet, spreadsheets) the line is the row's number


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
