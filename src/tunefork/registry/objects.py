"""Copies of files, each under the hash of its content: `objects/ab/cdef…`.

A copy is written beside and moved into its place, so one that is there is whole. Who writes or
drops holds the registry's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import InputError, RunError
from tunefork.core.files import writing
from tunefork.core.hashing import hash_file

_CHUNK_BYTES = 1 << 20
_PARTIAL = "partial"
_TAG = "sha256:"


@dataclass(frozen=True)
class ObjectStore:
    """The folder with the copies."""

    folder: Path

    def path(self, address: str) -> Path:
        """Return where the content of this hash lies, or would lie."""
        digits = address.removeprefix(_TAG)
        return self.folder / digits[:2] / digits[2:]

    def put(self, source: Path) -> str:
        """Keep a copy of a file and return its hash; a damaged earlier copy is replaced.

        Raises:
            InputError: It cannot be read.
            RunError: The copy cannot be written.
        """
        partial = self.folder / _PARTIAL / str(os.getpid())
        with writing(partial):
            partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            address = _copy(source, partial)
            place = self.path(address)
            if place.is_file() and hash_file(place) == address:
                return address
            with writing(place):
                place.parent.mkdir(exist_ok=True)
                partial.replace(place)
            return address
        finally:
            partial.unlink(missing_ok=True)

    def copy_to(self, address: str, target: Path) -> None:
        """Write the content of this hash to a new file, checked on the way.

        Raises:
            RunError: The copy is gone or damaged.
        """
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = _copy(self.path(address), target)
        except InputError as error:
            raise _damaged(self.path(address), error.message) from error
        if found != address:
            target.unlink()
            raise _damaged(self.path(address), "it is not what was kept")

    def addresses(self) -> Iterator[tuple[str, Path]]:
        """Yield every copy there is: its hash by name, and its place."""
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*")):
            yield f"{_TAG}{path.parent.name}{path.name}", path

    def drop(self, address: str) -> None:
        """Remove a copy."""
        path = self.path(address)
        with writing(path):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others lie there
                path.parent.rmdir()

    def drop_partial(self) -> None:
        """Remove what a kill left half-written."""
        shutil.rmtree(self.folder / _PARTIAL, ignore_errors=True)

    def partial_bytes(self) -> int:
        """Return how much a kill left half-written."""
        return sum(path.stat().st_size for path in (self.folder / _PARTIAL).glob("*"))


def _copy(source: Path, target: Path) -> str:
    """Copy a file and return the hash of what was copied."""
    digest = hashlib.sha256()
    try:
        file = source.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "check the path, and that you may read it"
        raise InputError(f"cannot be read: {reason}", where=source, hint=hint) from error
    with file, writing(target), target.open("wb") as copy:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return _TAG + digest.hexdigest()


def _damaged(path: Path, reason: str) -> RunError:
    hint = "restore it from a backup; `tunefork verify` lists all that is damaged"
    return RunError(f"a kept copy cannot be used: {reason}", where=path, hint=hint)
