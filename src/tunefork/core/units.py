"""Numbers as people read them."""

from __future__ import annotations

import re

from tunefork.core.errors import UsageError

_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def bytes_text(size: float) -> str:
    """Return a size such as `1.2 MB` (powers of 1,000, as disks are sold)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """Return a duration such as `45 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count_text(number: float) -> str:
    """Return a count such as `5.4M`."""
    for unit in ("", "k", "M", "B"):
        if abs(number) < 1000:
            return f"{number:.0f}" if unit == "" else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f}T"


def parse_duration(text: str) -> int:
    """Return the seconds that `30s`, `10m`, `12h` or `90d` says.

    Raises:
        UsageError: It says no time.
    """
    found = re.fullmatch(r"\s*(\d{1,9})\s*([smhd])\s*", text)
    if found is None:
        raise UsageError(f"`{text}` is no time", hint="write it as 30s, 10m, 12h or 90d")
    return int(found[1]) * _SECONDS[found[2]]


def parse_bytes(text: str) -> int:
    """Return the bytes that `24GB`, `16 GiB` or `800M` says (powers of 1,000, or of 1,024).

    Raises:
        UsageError: It says no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])(i?)b?\s*", text, re.IGNORECASE)
    if found is None or not float(found[1]):
        raise UsageError(f"`{text}` is no size of memory", hint="write it as 24GB")
    unit = 1024.0 if found[3] else 1000.0
    return round(float(found[1]) * unit ** _POWERS[found[2].lower()])
