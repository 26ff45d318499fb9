"""What a format is: the columns it needs, what they must hold, and what a row of it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.data._messages import read_text
from tunefork.data.example import Kind, Message, Row

Fields = Mapping[str, Any]  # one row as read: any JSON values


def anything(fields: Fields) -> bool:
    """Fit every row that has the columns."""
    return True


def itself(fields: Fields, where: Where) -> list[Fields]:
    """Take a row as one row."""
    return [fields]


@dataclass(frozen=True)
class Format:
    """A shape that rows can have."""

    name: str
    required: tuple[str, ...]
    build: Callable[[Fields, Where], Row]
    kind: Kind = "chat"
    uses: tuple[str, ...] = ()  # columns that are read where they are there
    fits: Callable[[Fields], bool] = anything  # a look at what the required columns hold
    answer: str | None = None  # of formats that are told apart by their columns alone
    spread: Callable[[Fields, Where], list[Fields]] = itself  # one row as read into its rows

    def takes(self, fields: Fields) -> bool:
        """Tell whether a row has the columns, and what they hold looks right."""
        return all(column in fields for column in self.required) and self.fits(fields)


def system_turn(fields: Fields, column: str | None, where: Where) -> list[Message]:
    """Return the system turn, or none where a row leaves it empty.

    Raises:
        DataError: where it is no text.
    """
    if column is None or fields.get(column) is None:
        return []
    text = read_text(fields[column], column, where)
    return [Message("system", text)] if text else []


def fault(message: str, where: Where, hint: str) -> DataError:
    """Return the error of one row."""
    return DataError(message, where=where, hint=hint)
