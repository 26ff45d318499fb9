"""Read the one sheet of an Excel workbook that holds rows. openpyxl is loaded when it is needed."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.data._record import Record
from tunefork.data._table import check_header

_BLOCK_ROWS = 256
_LOOKED_AT = 1000  # rows of each sheet, for the first that is not empty

_Cells = tuple[Any, ...]  # the values that openpyxl makes of cells


def read_sheet(path: Path) -> Iterator[Record | DataError]:
    """Yield the rows below the header, all values as text; the line is the row's in the sheet.

    Raises:
        DataError: where the file is no workbook, or several of its sheets hold rows.
    """
    try:
        yield from _rows(path)
    except (DataError, PermissionError, FileNotFoundError):
        raise
    except Exception as error:  # the library lets through whatever a part of it raises
        raise DataError(
            f"this is no sound workbook: {type(error).__name__}: {error}",
            where=path,
            hint="open and save it again, or export the sheet as CSV",
        ) from error


def _rows(path: Path) -> Iterator[Record | DataError]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parts of the workbook that are no cells
        import openpyxl

        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        filled = [sheet for sheet in book.worksheets if _has_rows(sheet)]
        if len(filled) > 1:
            names = ", ".join(f"`{sheet.title}`" for sheet in filled)
            raise DataError(
                f"{len(filled)} sheets hold rows: {names}",
                where=path,
                hint="save the one with your rows as a workbook of its own, or as CSV",
            )
        for sheet in filled:
            yield from _sheet_rows(sheet, path)
    finally:
        book.close()


def _has_rows(sheet: Any) -> bool:
    return any(map(_is_filled, islice(_cells(sheet), _LOOKED_AT)))


def _sheet_rows(sheet: Any, path: Path) -> Iterator[Record | DataError]:
    header: list[str] = []
    for number, cells in enumerate(_cells(sheet), start=1):
        if not _is_filled(cells):
            continue
        where = Where(str(path), number)
        values = [_as_text(value) for value in cells]
        if not header:
            while values and not values[-1]:
                values.pop()
            header = check_header(values, where)
            continue
        if any(values[len(header) :]):
            yield DataError(
                f"the row has more fields than the header, which has {len(header)}",
                where=where,
                hint="name every column in the header",
            )
            continue
        values += [""] * (len(header) - len(values))
        yield Record(dict(zip(header, values, strict=False)), where)


def _cells(sheet: Any) -> Iterator[_Cells]:
    """Yield rows of values, with the library kept quiet while it reads them."""
    sheet.reset_dimensions()  # what the file says of its size is often wrong
    rows = sheet.iter_rows(values_only=True)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            block = list(islice(rows, _BLOCK_ROWS))
        if not block:
            return
        yield from block


def _is_filled(cells: _Cells) -> bool:
    return any(value is not None and value != "" for value in cells)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
