"""The rows of data files, to count them and to tell two versions apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError
from tunefork.core.hashing import canonical_json
from tunefork.data import Record, scan_records

Rows = Counter[str]  # each row as canonical JSON, and how often it is there


def read_rows(path: Path) -> Rows | None:
    """Return the rows of a file or folder; None where it cannot be read."""
    try:
        records = [each for each in scan_records(path) if isinstance(each, Record)]
    except DataError:
        return None
    return Counter(canonical_json(record.fields) for record in records)


def compare_rows(before: Rows, after: Rows) -> dict[str, int]:
    """Count what was added and removed, and what stayed; the order of rows is no change."""
    return {
        "added": (after - before).total(),
        "removed": (before - after).total(),
        "same": (after & before).total(),
    }


def examples(rows: Rows, most: int) -> list[Any]:
    """Return the first few rows, as they were read."""
    return [json.loads(text) for text in list(rows.elements())[:most]]
