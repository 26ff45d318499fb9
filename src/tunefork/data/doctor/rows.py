"""The rows of a file as the checks see them: texts and a place, and nothing that costs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tunefork.core.errors import DataError
from tunefork.core.hashing import canonical_json
from tunefork.data.example import (
    Example,
    Judged,
    Kind,
    Labelled,
    Message,
    Preference,
    Prompt,
    Text,
)
from tunefork.data.example import Row as AnyRow
from tunefork.data.recognise import scan_rows

_RULES = ("system", "developer")
_NO_LABEL = "(no label)"  # where none of several fits: said, so nothing is missing
# A mark that carries the meaning stays: `1 + 2` is not `1 - 2`, and 1.5 not 15.
_NO_MEANING = re.compile(
    r"[^\w\s.+*/<>=^%-]|_"
    r"|\.(?!\d)|(?<!\d)\."
    r"|[+*/<>=^%](?!\s*\d)(?<!\w[+])"
    r"|(?<=[\w)])-|-(?!\s*\d)"
)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        number: Its place in the file, from 1; rows that cannot be read count too.
        line: Where it begins, 0 where that is not known.
        kind: What it is; see `data.example`.
        prompt: What stands before the answer, without the system turn.
        answer: The answer: of two the better one, a label, or a whole text.
        turns: All of it: role and text.
        asked: The user turns.
        example: The row as a conversation; None of a plain text.
        extra: What else makes it another row than one with the same turns.
    """

    number: int
    line: int
    kind: Kind
    prompt: str
    answer: str
    turns: tuple[tuple[str, str], ...]
    asked: tuple[str, ...]
    example: Example | None
    extra: str = ""

    @cached_property
    def prompt_key(self) -> str:
        """Equal where two rows ask the same; case and punctuation do not count."""
        if self.example is None:
            return plain(self.prompt)
        return "\n".join(f"{each.role}: {plain(each.content)}" for each in self.example.prompt)

    @cached_property
    def answer_key(self) -> str:
        """Equal where two rows answer the same."""
        if self.example is None:
            return ""
        last = self.example.messages[len(self.example.prompt)]
        calls = repr(last.tool_calls) if last.tool_calls else ""
        return plain(last.content) + calls + self.extra


@dataclass(frozen=True)
class Rows:
    """All rows of a file that can be read, and what is wrong with the others."""

    rows: list[Row]
    faults: list[tuple[int, DataError]]  # by row number
    format: str = ""

    @property
    def total(self) -> int:
        """All rows of the file."""
        return len(self.rows) + len(self.faults)


def read_rows(path: Path, mapping: Mapping[str, str] | None = None) -> Rows:
    """Read a file or folder.

    Raises:
        SpecError: where the mapping is wrong.
        DataError: where the file as a whole cannot be read, or no row of it is understood.
    """
    rows: list[Row] = []
    faults: list[tuple[int, DataError]] = []
    forms: list[str] = []
    scanned = scan_rows(path, mapping, tell=lambda found: forms.append(found.format.name))
    for number, read in enumerate(scanned, start=1):
        if isinstance(read, DataError):
            faults.append((number, read))
        else:
            rows.append(row_of(read, number))
    if not rows and faults:
        raise faults[0][1]
    return Rows(rows, faults, ", ".join(dict.fromkeys(forms)))


def row_of(read: AnyRow, number: int) -> Row:
    """Return a row as the checks see it."""
    line = read.where.line or 0
    if isinstance(read, Text):
        turns = (("text", read.text),)
        return Row(number, line, read.kind, read.text, read.text, turns, (read.text,), None)
    if isinstance(read, Prompt):
        return _prompt_row(read, number, line)
    example, more, extra = _as_conversation(read)
    messages = (*example.messages, *more)
    prompt = [each.content for each in example.prompt if each.role not in _RULES]
    return Row(
        number,
        line,
        read.kind,
        "\n".join(prompt),
        example.answer,
        tuple((each.role, each.content) for each in messages),
        tuple(each.content for each in messages if each.role == "user"),
        example,
        extra,
    )


def _prompt_row(read: Prompt, number: int, line: int) -> Row:
    prompt = "\n".join(each.content for each in read.messages if each.role not in _RULES)
    return Row(
        number,
        line,
        read.kind,
        prompt,
        prompt,
        tuple((each.role, each.content) for each in read.messages),
        tuple(each.content for each in read.messages if each.role == "user"),
        None,
        canonical_json(dict(read.item)),
    )


def _as_conversation(
    read: Example | Preference | Judged | Labelled,
) -> tuple[Example, tuple[Message, ...], str]:
    """Return a row as a conversation, turns beside it, and what else tells it from others."""
    if isinstance(read, Example):
        return read, (), repr(read.tools) if read.tools else ""
    if isinstance(read, Labelled):
        label = read.label or _NO_LABEL
        turns = (Message("user", read.text), Message("assistant", label))
        return Example(turns, read.where), (), ""
    if isinstance(read, Judged):
        return (
            Example((*read.prompt, *read.completion), read.where, read.tools),
            (),
            f" {read.is_good}",
        )
    rejected = " / ".join(plain(each.content) for each in read.rejected)
    chosen = Example((*read.prompt, *read.chosen), read.where, read.tools)
    return chosen, read.rejected, f" not {rejected}"


def plain(text: str) -> str:
    """Return a text without case and punctuation; the text itself where nothing else is in it."""
    folded = text.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", folded)
    return " ".join(_NO_MEANING.sub(" ", folded).split()) or folded.strip()


def groups(keys: list[str]) -> Iterator[list[int]]:
    """Yield the places of equal keys, where there are several."""
    places: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        places.setdefault(key, []).append(at)
    return (found for found in places.values() if len(found) > 1)
