"""Read Parquet, some rows at a time. pyarrow is loaded when the first such file is read."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.data._record import Record

_BATCH_ROWS = 1024


def read_parquet(path: Path) -> Iterator[Record | DataError]:
    """Yield the rows; the line of each is its number, from 1 on.

    Raises:
        DataError: where the file is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            number = 0
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                for fields in batch.to_pylist():
                    number += 1
                    yield _record(fields, Where(str(path), number))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"this is no sound Parquet file: {reason}",
            where=path,
            hint="fetch or write the file again",
        ) from error


def _record(fields: dict[str, Any], where: Where) -> Record | DataError:
    try:
        return Record({name: _as_json(value) for name, value in fields.items()}, where)
    except TypeError as error:
        return DataError(
            f"a field holds {error}, which is neither text nor a number",
            where=where,
            hint="leave the column out, or write it as text",
        )


def _as_json(value: Any) -> Any:  # what a cell can hold, and what JSON can
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise TypeError("bytes") from None
    raise TypeError(f"a {type(value).__name__}")
