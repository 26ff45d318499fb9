"""Open a file for reading, unpacked where it is gzip or zstd; its first bytes say which it is."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO, cast

from tunefork.core.errors import DataError, Where

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ENDINGS = (".gz", ".zst", ".zstd")


def ending(path: PurePath) -> str:
    """Return what a file's name ends in, in small letters, without that of the compression."""
    name = PurePath(path.name.lower())
    return name.with_suffix("").suffix if name.suffix in _ENDINGS else name.suffix


def is_packed(path: PurePath) -> bool:
    """Tell whether a file's name says that it is compressed."""
    return path.suffix.lower() in _ENDINGS


@contextlib.contextmanager
def open_unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file for reading.

    Raises:
        DataError: where what is packed is cut off or damaged.
        OSError: where the file cannot be read.
    """
    with path.open("rb") as file:
        begin = file.peek(4)
        if begin.startswith(_GZIP):
            # Beside `OSError`, because `gzip` calls some of its own faults that.
            with _sound(path), gzip.GzipFile(fileobj=file) as inside:
                yield io.BufferedReader(cast(io.RawIOBase, inside))
        elif begin.startswith(_ZSTD):
            with _sound(path):
                yield io.BufferedReader(cast(io.RawIOBase, _zstd(file)))
        else:
            yield file


def _zstd(file: IO[bytes]) -> object:
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"what is packed in it is cut off or damaged: {error}",
            where=Where(str(path)),
            hint="fetch or pack the file again",
        ) from error
