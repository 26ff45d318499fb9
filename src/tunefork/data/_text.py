"""Read a text file, packed or not, line by line: UTF-8, or UTF-16 that says so.

Where it is neither, the error says exactly where.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tunefork.core.errors import DataError, Where
from tunefork.data._compressed import open_unpacked

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based line, its text with line end); a leading byte order mark is dropped."""
    try:
        with open_unpacked(path) as file:
            is_utf16 = file.peek(2).startswith(_UTF16)
            yield from (_utf16_lines if is_utf16 else _utf8_lines)(file, path)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a path that the operating system does not let us read."""
    reason = error.strerror or str(error)
    return DataError(
        f"cannot be read: {reason}", where=path, hint="check the path, and that you may read it"
    )


def _utf8_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    offset_bytes = 0
    for line, raw in enumerate(file, start=1):
        yield line, _decode(raw, line, offset_bytes, path)
        offset_bytes += len(raw)


def _utf16_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    line = 0
    # Only `\n` ends a line, as in UTF-8 files; the byte order mark says which UTF-16 it is.
    with io.TextIOWrapper(file, encoding="utf-16", newline="\n") as texts:
        try:
            for line, text in enumerate(texts, start=1):
                if "\0" in text:
                    raise DataError(
                        "a zero character: this is no text",
                        where=Where(str(path), line),
                        hint="save it as UTF-8; if it is binary, export it as CSV",
                    )
                yield line, text
        except UnicodeError as error:
            raise DataError(
                f"the file begins as UTF-16, but is not: {error}",
                where=Where(str(path), line + 1),
                hint=_to_utf8("UTF-16"),
            ) from error


def _decode(raw: bytes, line: int, offset_bytes: int, path: Path) -> str:
    where = Where(str(path), line)
    if line == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)
    if b"\0" in raw:
        at = offset_bytes + raw.index(b"\0")
        raise DataError(
            f"a zero byte (at byte {at}): this is no UTF-8 text",
            where=where,
            hint="if it is UTF-16, " + _to_utf8("UTF-16LE") + "; if it is binary, export it as CSV",
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset_bytes + error.start
        raise DataError(
            f"not UTF-8: byte 0x{raw[error.start]:02x} at byte {at} of the file",
            where=where,
            hint=_to_utf8("WINDOWS-1252"),
        ) from error


def _to_utf8(encoding: str) -> str:
    return f"save it as UTF-8, for example with `iconv -f {encoding} -t UTF-8 OLD > NEW`"
