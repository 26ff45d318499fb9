"""Prepared rows as they pile up, chunk by chunk: in a folder that outlives a kill, or in memory.

A folder holds one flat file for each array, and `chunks.jsonl`, which says after each chunk how
far the files reach and what the chunk's hash is. A kill leaves at most the beginning of a chunk
that is not listed; it is cut off when the work goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.data.conversations import SHAPES
from tunefork.data.example import Kind
from tunefork.data.facts import FACTS, Facts, columns_of
from tunefork.data.items import Items
from tunefork.data.sketches import SKETCH_SHAPE, Sketches
from tunefork.data.tokens import TokenRows

_INDEX = "chunks.jsonl"
_KINDS: dict[str, np.dtype[Any]] = {  # what each file holds
    "ids": np.dtype("<i4"),
    "weights": np.dtype("<f4"),
    "lengths": np.dtype("<i4"),
    "facts": FACTS,
    "asked": np.dtype("<u8"),
    "sketches": np.dtype("u1"),
}


@dataclass(frozen=True)
class Chunk:
    """Some rows that follow each other."""

    ids: NDArray[np.int32]  # (n_tokens,)
    weights: NDArray[np.float32]  # (n_tokens,)
    lengths: NDArray[np.int32]  # (n_token_rows,): in items of equally many
    facts: Facts  # (n_items,): of rows of the file
    asked: NDArray[np.uint64]  # (n_user_turns,)
    sketches: Sketches  # of the first rows of the file, where it is to be split

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by the name of their file, as they lie on disk."""
        return {
            each.name: np.ascontiguousarray(getattr(self, each.name), dtype=_KINDS[each.name])
            for each in fields(self)
        }

    def items(self, kind: Kind) -> Items:
        """Return the rows of tokens, those of each row of the file together."""
        lengths = self.lengths.astype(np.int64)
        rows = TokenRows(self.ids, self.weights, np.concatenate([[0], np.cumsum(lengths)]))
        size = SHAPES[kind].n_rows
        return Items(rows, np.arange(0, len(lengths) + 1, size), columns_of(self.facts, kind))


class MemoryChunks:
    """Chunks that are kept in memory."""

    n_rows = 0  # of earlier sittings

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def append(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self.chunks.append(chunk)


class FolderChunks:
    """Chunks that are appended to the files of a folder; what lies there whole is kept.

    Raises:
        OSError: where the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        listed = _listed(folder)
        sound = listed[: _count_sound(folder, listed)]
        self._ends = dict(sound[-1]["ends"]) if sound else dict.fromkeys(_KINDS, 0)
        self.n_rows = self._ends["facts"] // FACTS.itemsize
        for name, end in self._ends.items():
            with (folder / name).open("ab") as file:
                file.truncate(end)
        (folder / _INDEX).write_text("".join(map(_line, sound)), encoding="utf-8")

    def append(self, chunk: Chunk) -> None:
        """Write a chunk; it counts once it is listed."""
        digest = hashlib.sha256()
        for name, array in chunk.arrays().items():
            data = array.tobytes()
            digest.update(data)
            with (self._folder / name).open("ab") as file:
                file.write(data)
            self._ends[name] += len(data)
        with (self._folder / _INDEX).open("a", encoding="utf-8") as file:
            file.write(_line({"ends": self._ends, "sha256": digest.hexdigest()}))

    def finish(self) -> None:
        """Say that there are no more chunks, and have all of it on the disk."""
        with (self._folder / _INDEX).open("a", encoding="utf-8") as file:
            file.write(_line({"ends": self._ends, "sha256": None}))
        for path in self._folder.iterdir():
            with path.open("rb") as opened:
                os.fsync(opened.fileno())


def open_chunks(folder: Path) -> Chunk | None:
    """Return all rows of a finished folder, tokens memory-mapped.

    Returns None where one byte is missing, or not as it was written.

    Raises:
        OSError: where it cannot be read.
    """
    listed = _listed(folder)
    if not listed or listed[-1]["sha256"] is not None:
        return None
    *chunks, last = listed
    paths = {name: folder / name for name in _KINDS}
    sizes = {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
    ends = chunks[-1]["ends"] if chunks else None
    if sizes != last["ends"] or sizes != ends or _count_sound(folder, chunks) < len(chunks):
        return None
    with contextlib.suppress(OSError):  # a mark of use; a folder that is only read has none
        os.utime(folder / _INDEX)
    return Chunk(
        ids=_mapped(folder, "ids"),
        weights=_mapped(folder, "weights"),
        lengths=np.fromfile(folder / "lengths", _KINDS["lengths"]),
        facts=np.fromfile(folder / "facts", FACTS),
        asked=np.fromfile(folder / "asked", _KINDS["asked"]),
        sketches=_mapped(folder, "sketches").reshape(-1, *SKETCH_SHAPE),
    )


def last_use(folder: Path) -> float:
    """Return when a folder was last opened or written to, in seconds since 1970."""
    path = folder / _INDEX
    return (path if path.exists() else folder).stat().st_mtime


def _mapped(folder: Path, name: str) -> NDArray[Any]:
    path = folder / name
    if path.stat().st_size == 0:  # nothing that could be mapped
        return np.empty(0, _KINDS[name])
    # As a plain array: every slice of numpy's own kind would carry its weight.
    return np.asarray(np.memmap(path, _KINDS[name], mode="r"))


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _listed(folder: Path) -> list[dict[str, Any]]:
    """Return the chunks that a folder lists, up to the first line that cannot be read."""
    found: list[dict[str, Any]] = []
    path = folder / _INDEX
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            is_whole = line.endswith(b"\n") and entry["ends"].keys() == _KINDS.keys()
            is_whole &= all(type(end) is int for end in entry["ends"].values())
            is_whole &= "sha256" in entry
        except (ValueError, TypeError, LookupError, AttributeError):
            break
        if not is_whole:
            break
        found.append(entry)
    return found


def _count_sound(folder: Path, listed: list[dict[str, Any]]) -> int:
    """Return how many of the listed chunks, from the first on, are as they were written."""
    begins = dict.fromkeys(_KINDS, 0)
    with contextlib.ExitStack() as stack:
        try:
            files = {name: stack.enter_context((folder / name).open("rb")) for name in _KINDS}
        except FileNotFoundError:
            return 0
        sizes = {name: os.fstat(file.fileno()).st_size for name, file in files.items()}
        for number, entry in enumerate(listed):
            if any(not begins[name] <= entry["ends"][name] <= sizes[name] for name in files):
                return number
            digest = hashlib.sha256()
            for name, file in files.items():
                digest.update(file.read(entry["ends"][name] - begins[name]))
            if digest.hexdigest() != entry["sha256"]:
                return number
            begins = entry["ends"]
    return len(listed)
