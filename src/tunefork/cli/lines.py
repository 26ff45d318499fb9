"""JSON as it goes to stdout."""

from __future__ import annotations

import json
import sys
from typing import Any


def json_line(value: dict[str, Any]) -> str:
    """Return one line of JSON; escaped where stdout cannot hold its characters as they are."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(value)
    return line + "\n"
