"""Read a file of JSON lines into objects, with every bad line in one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tunefork.core.errors import DataError, InputError
from tunefork.data.read import Record, scan_records

_Item = TypeVar("_Item")


def read_items(path: Path, build: Callable[[Record], _Item]) -> list[_Item]:
    """Return what `build` makes of each record, in order.

    Raises:
        DataError: The file cannot be read, or `build` refused lines of it: the first is the
            error, the others are its details.
    """
    items: list[_Item] = []
    faults: list[InputError] = []
    for record in scan_records(path):
        if isinstance(record, DataError):
            faults.append(record)
            continue
        try:
            items.append(build(record))
        except InputError as error:
            faults.append(error)
    if not faults:
        return items
    first, *others = faults
    details = [*first.details]
    for fault in others:
        details += [f"{fault.where}: {fault.message}", *fault.details]
    raise DataError(first.message, where=first.where, hint=first.hint, details=tuple(details))
