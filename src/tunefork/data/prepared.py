"""A data file as token ids, prepared once and kept under a hash of all that decides them.

Entry point: `prepare_file`. What is kept lies in `$TUNEFORK_HOME/cache/tokens/KEY`; another file,
mapping, seed, tokenizer, template, date or code has another key, so it is never stale. The longest
row that is trained is no part of it: all rows are kept. A preparation that was killed goes on
after its last whole chunk, to the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, InputError
from tunefork.core.events import Sink, Warned, no_sink
from tunefork.core.files import cache_folder
from tunefork.data._chunks import Chunk, FolderChunks, MemoryChunks, last_use, open_chunks
from tunefork.data._source import Source
from tunefork.data.example import Kind
from tunefork.data.facts import Facts
from tunefork.data.items import Items
from tunefork.data.prompts import Prompts
from tunefork.data.render import Renderer
from tunefork.data.sketches import Sketches
from tunefork.data.tokens import TokenRows

_CACHE_BYTES = 10 * 10**9  # beyond it what was not used for longest is dropped


@dataclass(frozen=True)
class TokenFile:
    """Every row of a data file, in its order."""

    path: Path
    items: Items
    facts: Facts  # (n_items,)
    asked: NDArray[np.uint64]  # (n_user_turns,): the user turns by `text_hash`
    sketches: Sketches  # of the first rows, to find near-duplicates; empty without a seed

    def asking(self, questions: Prompts) -> NDArray[np.bool_]:
        """Say of each row whether one of its user turns is one of some questions, (n_items,)."""
        found = np.concatenate([[0], np.cumsum(questions.among(self.asked))])
        ends = np.cumsum(self.facts["n_asked"], dtype=np.int64)
        is_asking: NDArray[np.bool_] = found[ends] > found[ends - self.facts["n_asked"]]
        return is_asking

    @property
    def rows(self) -> TokenRows:
        """The rows of tokens, of all items."""
        return self.items.rows


def prepare_file(
    path: Path,
    renderer: Renderer,
    *,
    kind: Kind = "chat",
    mapping: Mapping[str, str] | None = None,
    seed: int | None = None,
    sink: Sink = no_sink,
) -> TokenFile:
    """Return a file's rows as tokens: those that are kept, or new ones, which are kept then.

    Args:
        path: The file.
        renderer: What makes tokens of a conversation.
        kind: What its rows must be.
        mapping: See `scan_rows`.
        seed: What `prompt_key` draws by; None where nothing will be split off.
        sink: Told how far it is, and what is wrong with the kept rows.

    Raises:
        SpecError: where the mapping is wrong.
        DataError: with all rows that cannot be read, or else all that cannot be rendered.
    """
    source = Source(path, renderer, kind, mapping, seed, sink)
    if not path.is_file():  # mostly there is none; and a pipe can be read only once
        return _in_memory(source)
    digest, n_lines = source.digest()
    folder = cache_folder() / "tokens" / source.key(digest)
    try:
        chunk = _open(folder, sink) or _build(folder, source, digest, n_lines)
    except OSError as error:
        reason = error.strerror or str(error)
        sink(Warned(f"cannot keep the prepared rows in {folder}: {reason}; going on without"))
        return _in_memory(source, n_lines)
    return TokenFile(path, chunk.items(kind), chunk.facts, chunk.asked, chunk.sketches)


def _in_memory(source: Source, n_lines: int = 0) -> TokenFile:
    kept = MemoryChunks()
    source.fill(kept, n_lines)
    return TokenFile(
        source.path,
        Items.concatenate([chunk.items(source.kind) for chunk in kept.chunks]),
        np.concatenate([chunk.facts for chunk in kept.chunks]),
        np.concatenate([chunk.asked for chunk in kept.chunks]),
        np.concatenate([chunk.sketches for chunk in kept.chunks]),
    )


def _open(folder: Path, sink: Sink) -> Chunk | None:
    """Return the kept rows, or None where there are none that can be used."""
    if not folder.is_dir():
        return None
    chunk = open_chunks(folder)
    if chunk is None:
        sink(Warned(f"the prepared rows in {folder} are damaged; preparing them anew"))
    return chunk


def _build(folder: Path, source: Source, digest: str, n_lines: int) -> Chunk:
    """Prepare the rows in a folder beside, and move it into its place when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder, source.sink) as partial:
        chunk = open_chunks(folder)
        if chunk is not None:  # another run was faster
            return chunk
        shutil.rmtree(folder, ignore_errors=True)
        chunks = FolderChunks(partial)
        try:
            source.fill(chunks, n_lines)
            if source.digest()[0] != digest:
                raise DataError(
                    "the file changed while it was read",
                    where=source.path,
                    hint="run again when nothing writes to it any more",
                )
            chunks.finish()
            partial.rename(folder)
        except (InputError, OSError):
            # The file as it is has no use for it, or the disk no room.
            shutil.rmtree(partial, ignore_errors=True)
            raise
    with contextlib.suppress(OSError):  # another process may drop them as well
        _drop_oldest(folder)
    chunk = open_chunks(folder)
    if chunk is None:
        raise OSError("it is not as it was written")
    return chunk


@contextlib.contextmanager
def _alone(folder: Path, sink: Sink) -> Iterator[Path]:
    """Give the folder to work in; a second process that prepares the same rows waits."""
    if sys.platform == "win32":  # no such locks: each process works in a folder of its own
        yield folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        return
    import fcntl

    with folder.with_name(f"{folder.name}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sink(Warned("another run is preparing the same rows; waiting for it to end"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder.with_name(f"{folder.name}.partial")


def _drop_oldest(used: Path) -> None:
    """Keep the cache within its size; where files are in use, their bytes stay until closed."""
    folders = [path for path in used.parent.iterdir() if path.is_dir() and path != used]
    left = _CACHE_BYTES - _size(used)
    for folder in sorted(folders, key=last_use, reverse=True):
        left -= _size(folder)
        if left < 0:
            shutil.rmtree(folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
