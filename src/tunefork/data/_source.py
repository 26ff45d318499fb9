"""A data file and how rows are made of it: read lazily, rendered in batches, kept in chunks."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np

from tunefork.core.errors import DataError
from tunefork.core.events import Progress, Sink
from tunefork.core.hashing import hash_file, hash_json
from tunefork.data._batches import Batch, render_batches
from tunefork.data._chunks import Chunk, FolderChunks, MemoryChunks
from tunefork.data._compressed import ending, is_packed
from tunefork.data._text import unreadable
from tunefork.data.example import Kind, Row
from tunefork.data.facts import asked, facts_of
from tunefork.data.recognise import Faults, scan_kind
from tunefork.data.render import Renderer
from tunefork.data.sketches import sketches_of
from tunefork.data.tokens import TokenRows

_CHUNK_ROWS, _CHUNK_TOKENS = 1 << 14, 1 << 22  # a chunk is full with either
_READ_BYTES = 1 << 20
_PROGRESS_EVERY = 500  # rows


@dataclass(frozen=True)
class Source:
    """A file, and all that decides which rows come of it; see `prepare_file`."""

    path: Path
    renderer: Renderer
    kind: Kind
    mapping: Mapping[str, str] | None
    seed: int | None
    sink: Sink

    def digest(self) -> tuple[str, int]:
        """Return the file's hash, and how many lines end in it: 0 where it has none to count.

        Raises:
            DataError: where it cannot be read.
        """
        digest, n_lines = hashlib.sha256(), 0
        has_lines = not is_packed(self.path) and ending(self.path) not in (".parquet", ".xlsx")
        try:
            with self.path.open("rb") as file:
                while data := file.read(_READ_BYTES):
                    digest.update(data)
                    n_lines += data.count(b"\n") if has_lines else 0
        except OSError as error:
            raise unreadable(self.path, error) from error
        return digest.hexdigest(), n_lines

    def key(self, digest: str) -> str:
        """Return the name of the rows of a file with this hash."""
        found = hash_json(
            [
                digest,
                ending(self.path),
                self.kind,
                dict(self.mapping) if self.mapping is not None else None,
                self.seed,
                self.renderer.fingerprint,
                unicodedata.unidata_version,
                version("rensa"),  # which signs the sketches
                _code_hash(),
            ]
        )
        return found.removeprefix("sha256:")[:32]

    def fill(self, chunks: FolderChunks | MemoryChunks, n_lines: int = 0) -> None:
        """Append the rows that are not there yet; `n_lines` of the file, where it is known.

        Raises:
            SpecError: where the mapping is wrong.
            DataError: with all rows that cannot be read, or else all that cannot be rendered.
        """
        unread, refused = Faults(), Faults()
        done, batches = chunks.n_rows, list[Chunk]()
        for batch in render_batches(self.renderer, self._rows(unread, chunks.n_rows, n_lines)):
            for fault in batch.faults:
                refused.add(fault)
            if unread.count or refused.count:
                continue  # nothing will come of it; what else is wrong is still found
            batches.append(self._as_chunk(batch, done))
            done += len(batch.rows)
            if _is_full(batches):
                chunks.append(_joined(batches))
                batches = []
        unread.stop()
        refused.stop()
        if batches:
            chunks.append(_joined(batches))

    def _rows(self, unread: Faults, skip: int, n_lines: int) -> Iterator[Row]:
        """Yield the rows behind the first ones, until one cannot be read; tell of the progress."""
        what = f"reading {self.path.name}" + (f", going on at row {skip + 1:,}" if skip else "")
        found = itertools.islice(scan_kind(self.path, self.kind, self.mapping), skip, None)
        for n_rows, row in enumerate(found, start=1):
            if isinstance(row, DataError):
                unread.add(row)
                continue
            if not unread.count:
                yield row
            if n_rows % _PROGRESS_EVERY == 0 and row.where.line:
                # A row may take several lines, so the share of the lines is what tells.
                total = round((skip + n_rows) * n_lines / row.where.line) - skip
                if total > n_rows:
                    self.sink(Progress(what, n_rows, total))

    def _as_chunk(self, batch: Batch, first: int) -> Chunk:
        rows = TokenRows.from_rendered(chain.from_iterable(batch.rendered))
        facts = facts_of(batch.rows, rows, self.renderer, seed=self.seed, first=first)
        lengths = rows.lengths.astype(np.int32)
        sketched = batch.rows if self.seed is not None else []
        sketches = sketches_of(sketched, first)
        return Chunk(rows.ids, rows.weights, lengths, facts, asked(batch.rows), sketches)


def _is_full(batches: list[Chunk]) -> bool:
    # By what was rendered since the last chunk alone, so that a resumed run cuts alike.
    n_rows = sum(len(batch.facts) for batch in batches)
    return n_rows >= _CHUNK_ROWS or sum(len(batch.ids) for batch in batches) >= _CHUNK_TOKENS


def _joined(batches: list[Chunk]) -> Chunk:
    return Chunk(
        np.concatenate([batch.ids for batch in batches]),
        np.concatenate([batch.weights for batch in batches]),
        np.concatenate([batch.lengths for batch in batches]),
        np.concatenate([batch.facts for batch in batches]),
        np.concatenate([batch.asked for batch in batches]),
        np.concatenate([batch.sketches for batch in batches]),
    )


def _code_hash() -> str:
    """Return a hash of the code that makes rows of a file."""
    return hash_json([hash_file(path) for path in sorted(_code())])


def _code() -> list[Path]:
    folder = Path(__file__).parent
    return [*folder.glob("*.py"), *folder.glob("formats/*.py")]
