"""How often search finds the passage that answers a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import DataError, Where
from tunefork.retrieval.index import Hit


@dataclass(frozen=True)
class SourcedQuestion:
    """A question, and the documents in which its answer stands."""

    question: str
    sources: tuple[str, ...]
    where: Where


def recall_at(
    questions: Sequence[SourcedQuestion], search: Callable[[str], Sequence[Hit]]
) -> tuple[float, list[SourcedQuestion]]:
    """Return the share of questions with a right source among the hits, and those without.

    Args:
        questions: At least one.
        search: Returns the k best chunks, which makes this recall at k.
    """
    missed = [
        asked
        for asked in questions
        if not {hit.chunk.source for hit in search(asked.question)} & set(asked.sources)
    ]
    return 1 - len(missed) / len(questions), missed


def load_sourced(path: Path) -> list[SourcedQuestion]:
    """Read lines of `{"question": "…", "sources": ["leave.md", …]}`.

    Raises:
        DataError: It cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the questions: {error}", where=path) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = Where(str(path), number)
        try:
            row = json.loads(line)
            question, sources = row["question"], row["sources"]
        except (ValueError, LookupError, TypeError) as error:
            raise _unusable(where) from error
        if not isinstance(question, str) or not isinstance(sources, list) or not sources:
            raise _unusable(where)
        found.append(SourcedQuestion(question, tuple(map(str, sources)), where))
    if not found:
        raise DataError("the file holds no question", where=path, hint="write one a line")
    return found


def _unusable(where: Where) -> DataError:
    return DataError(
        "not a question with its sources",
        where=where,
        hint='write {"question": "…", "sources": ["file.md"]}',
    )
