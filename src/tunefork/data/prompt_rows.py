"""The prompts of a file with what is known of good answers to them: what graders are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.data.example import Prompt
from tunefork.data.recognise import scan_kind


@dataclass(frozen=True)
class PromptRows:
    """The prompts of a project, divided."""

    training: tuple[Prompt, ...]
    held_out: tuple[Prompt, ...]

    @classmethod
    def joined(cls, parts: Sequence[PromptRows | None]) -> PromptRows | None:
        """Return those of several files, one after the other; None where rows are no prompts."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return cls(
            tuple(row for part in known for row in part.training),
            tuple(row for part in known for row in part.held_out),
        )


def read_prompts(path: Path, mapping: Mapping[str, str] | None = None) -> tuple[Prompt, ...]:
    """Read a file whose rows have been prepared, so that all of them can be read."""
    return tuple(row for row in scan_kind(path, "prompts", mapping) if isinstance(row, Prompt))


def select_prompts(rows: tuple[Prompt, ...], chosen: NDArray[np.int64]) -> tuple[Prompt, ...]:
    """Return some of the rows."""
    return tuple(rows[at] for at in chosen.tolist())


def known_of(row: Prompt) -> dict[str, Any]:
    """Return what graders call `item`: the row's columns, and `question`, what is asked last."""
    asked = next(turn.content for turn in reversed(row.messages) if turn.role == "user")
    return {"question": asked, **row.item}
