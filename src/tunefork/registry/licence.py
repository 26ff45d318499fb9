"""Read under which licence a model folder says that it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

UNKNOWN = "unknown"
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)---[ \t]*$", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^[\W_]*licen[cs]e[*_ \t]*:[*_ \t]*([\w.+-]+)", re.IGNORECASE | re.MULTILINE)
_MOST_CHARACTERS = 100


def find_licence(folder: Path) -> str:
    """Return what `config.json`, the README or a LICENSE file says, else `unknown`."""
    return _from_config(folder) or _from_readme(folder) or _from_text(folder) or UNKNOWN


def _from_config(folder: Path) -> str | None:
    try:
        config = json.loads(_read(folder / "config.json"))
    except (ValueError, RecursionError):
        return None
    return _licence_in(config)


def _from_readme(folder: Path) -> str | None:
    """Read the front matter of a model card, or a line `Licence: …`."""
    text = _read(folder / "README.md")
    front = _FRONT_MATTER.match(text)
    if front is not None:
        try:
            licence = _licence_in(yaml.safe_load(front[1]))
        except (yaml.YAMLError, ValueError, RecursionError):
            licence = None
        return licence or _from_line(front[1]) or _from_line(text[front.end() :])
    return _from_line(text)


def _licence_in(values: Any) -> str | None:  # any JSON or YAML value
    """Return the `license` of a config or a model card; where it is `other`, its own name."""
    if not isinstance(values, dict):
        return None
    found = values.get("license")
    if isinstance(found, list):
        found = ", ".join(map(str, found))
    if found == "other":
        found = values.get("license_name") or found
    return found if isinstance(found, str) and found else None


def _from_line(text: str) -> str | None:
    found = _LINE.search(text)
    return found[1].rstrip(".") if found else None


def _from_text(folder: Path) -> str | None:
    for path in sorted([*folder.glob("LICENSE*"), *folder.glob("LICENCE*")]):
        lines = [line.strip(" #*") for line in _read(path).splitlines()]
        for line in filter(None, lines):
            return line[:_MOST_CHARACTERS]
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
