"""Read under which licence a model folder says that it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

UNKNOWN = "unknown"
_LINE = re.compile(r"^\W*licen[cs]e\W*?:\W*([\w.+-]+)", re.IGNORECASE | re.MULTILINE)
_MOST_CHARACTERS = 100


def find_licence(folder: Path) -> str:
    """Return what `config.json`, the README or a LICENSE file says, else `unknown`."""
    return _from_config(folder) or _from_readme(folder) or _from_text(folder) or UNKNOWN


def _from_config(folder: Path) -> str | None:
    try:
        config = json.loads(_read(folder / "config.json"))
    except ValueError:
        return None
    found = config.get("license") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def _from_readme(folder: Path) -> str | None:
    """Read the front matter of a model card, or a line `Licence: …`."""
    found = _LINE.search(_read(folder / "README.md"))
    return found[1].rstrip(".") if found else None


def _from_text(folder: Path) -> str | None:
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        lines = [line.strip(" #*") for line in _read(folder / name).splitlines()]
        for line in filter(None, lines):
            return line[:_MOST_CHARACTERS]
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
