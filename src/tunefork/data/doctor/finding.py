"""What a check says: one finding for each kind of fault, with the rows that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunefork.data.doctor.rows import Row

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_EXAMPLE_LETTERS = 160


@dataclass(frozen=True)
class Finding:
    """Rows with one kind of fault.

    Attributes:
        code: Stable name, such as `pii.email`.
        severity: `error` where training on it goes wrong, `warning` where it is worth a look,
            `note` where there may be nothing to do.
        count: How many rows, or what `message` counts.
        rows: Their numbers in the file, from 1.
        message: What was found, as a sentence.
        hint: What to do about it.
        example: A piece of the first of them; personal data in it is blotted out.
        example_row: The row of the example.
    """

    code: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    message: str
    hint: str
    example: str = ""
    example_row: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "code": self.code,
            "severity": self.severity,
            "count": self.count,
            "rows": list(self.rows),
            "message": self.message,
            "hint": self.hint,
            "example": self.example,
        }


def on_rows(
    code: str, severity: Severity, rows: Sequence[Row], message: str, hint: str, example: str = ""
) -> list[Finding]:
    """Return one finding on some rows, or none where there are no rows.

    `message` follows the number of rows: `3 rows` + ` with an empty answer`.
    """
    if not rows:
        return []
    first = rows[0]
    return [
        Finding(
            code,
            severity,
            len(rows),
            tuple(row.number for row in rows),
            f"{rows_text(len(rows))} {message}",
            hint,
            example or clip(first.answer or first.prompt),
            first.number,
        )
    ]


def rows_text(count: int) -> str:
    """Return `1 row`, or `1,234 rows`."""
    return "1 row" if count == 1 else f"{count:,} rows"


def clip(text: str, letters: int = _EXAMPLE_LETTERS) -> str:
    """Return a text on one line, cut to what an example may take."""
    line = " ".join(text[: 4 * letters].split())
    return line if len(line) <= letters else line[: letters - 1].rstrip() + "…"


def around(text: str, begin: int, end: int, shown: str) -> str:
    """Return what stands around a place in a text, with `shown` in its stead."""
    before = text[max(0, begin - 50) : begin]
    after = text[end : end + 40]
    return clip(
        ("…" if begin > 50 else "") + before + shown + after + ("…" if end + 40 < len(text) else "")
    )
