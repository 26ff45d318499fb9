"""Whether a job may begin: what a check found, and what a method can learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunefork.core.errors import DataError
from tunefork.data.conversations import SHAPES
from tunefork.data.doctor import Finding
from tunefork.data.example import Kind
from tunefork.data.recognise import scan_rows

_LEFT_OUT = "leak.golden"  # an error in a file; a run leaves those rows out by itself


def stopping_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that a run must not begin with."""
    return [each for each in findings if each.severity == "error" and each.code != _LEFT_OUT]


def check_learnable(path: Path, mapping: Mapping[str, str] | None, objective: str) -> None:
    """Refuse rows of a kind that an objective does not learn from.

    Raises:
        DataError: They are of another kind.
    """
    rows = scan_rows(path, mapping)
    kind = next((row.kind for row in rows if not isinstance(row, DataError)), None)
    wanted = kinds_of(objective)
    if kind not in wanted:
        raise DataError(
            f"the rows are {SHAPES[kind].name if kind else 'of an unknown kind'}, and this method "
            f"learns from {SHAPES[wanted[0]].name}",
            where=path,
            hint="choose the method that fits them, or bring rows of the other kind",
        )


def kinds_of(objective: str) -> tuple[Kind, ...]:
    """Return what an objective learns from; prompts are also taken from what has answers."""
    own = tuple(kind for kind, shape in SHAPES.items() if objective in shape.objectives)
    return (*own, "chat", "preference") if own == ("prompts",) else own
