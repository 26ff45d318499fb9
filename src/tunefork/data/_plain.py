"""Read plain text: a file is one document; a long one comes in pieces, cut at blank lines.

So a file of any size takes little memory, and no piece is longer than a model can make use of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tunefork.core.errors import DataError, Where
from tunefork.data._record import Record
from tunefork.data._text import text_lines

_PIECE = 32_000  # characters, about 8,000 tokens
_LOOKED_AT = 20  # lines
_TAGGED = re.compile(r"\S+[\t ](?:\S+[\t ])*(?:O|[BIESLU]-\S+)\s*")


def read_text_file(path: Path) -> Iterator[Record]:
    """Yield the document as `text`, or its pieces.

    Raises:
        DataError: where the file is no plain text, but columns of tags or XML.
    """
    piece: list[str] = []
    size, begins, blank = 0, 1, 0  # `blank`: lines of the piece up to its last blank one
    for line, text in text_lines(path):
        if line <= _LOOKED_AT and size < _PIECE:
            _refuse_marked(path, [*piece, text])
        if piece and size + len(text) > _PIECE:
            cut = blank or len(piece)
            yield from _record(piece[:cut], path, begins)
            piece, begins = piece[cut:], begins + cut
            size, blank = sum(map(len, piece)), 0
        piece.append(text)
        size += len(text)
        if not text.strip():
            blank = len(piece)
    yield from _record(piece, path, begins)


def _record(lines: list[str], path: Path, begins: int) -> Iterator[Record]:
    text = "".join(lines)
    if text.strip():
        above = len(text) - len(text.lstrip())
        line = begins + text.count("\n", 0, above)
        yield Record({"text": text.strip().replace("\r\n", "\n")}, Where(str(path), line))


def _refuse_marked(path: Path, lines: list[str]) -> None:
    filled = [line for line in lines if line.strip()]
    if filled and filled[0].lstrip().startswith("<?xml"):
        raise DataError(
            "this is XML, which is not read", where=path, hint="export the rows as CSV or JSON"
        )
    if len(filled) == 1 and _is_object(filled[0]):
        raise DataError(
            "this holds JSON, but the ending tells the format: plain text",
            where=path,
            hint="rename it to `.jsonl`",
        )
    if len(lines) == _LOOKED_AT and len(filled) > 3 and all(map(_TAGGED.fullmatch, filled)):
        raise DataError(
            "this holds one word and its tag on each line (CoNLL), which is not read",
            where=path,
            hint='write each sentence as one row: {"user": SENTENCE, "assistant": "person: Ann"}',
        )


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
