"""Files of JSON lines that we write ourselves, and may have been killed while writing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tunefork.core.files import write_text


def as_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, whole or not at all."""
    write_text(path, "".join(map(as_line, rows)))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a line that a kill cut short is none, as is a missing file."""
    found = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found
