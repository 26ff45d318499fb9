"""Build an index of a folder of documents, and bring one up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, InputError, RunError
from tunefork.core.events import Progress, Sink, Warned, no_sink
from tunefork.core.hashing import hash_file
from tunefork.retrieval.chunks import chunks_of
from tunefork.retrieval.documents import find_documents, read_document, source_of
from tunefork.retrieval.embedder import Embedder
from tunefork.retrieval.index import Index, IndexedDocument
from tunefork.retrieval.keywords import Keywords
from tunefork.retrieval.words import language_of


def build_index(
    documents: Path,
    *,
    embed: Embedder | None = None,
    earlier: Index | None = None,
    sink: Sink = no_sink,
) -> Index:
    """Index a folder of documents, or one document.

    What cannot be read is left out with a warning each.

    Args:
        documents: The folder.
        embed: A model for vectors; None searches by words alone.
        earlier: An index of the same folder: documents that did not change are taken from it.
        sink: Told of progress, and of documents that are left out.

    Raises:
        DataError: No document can be read.
    """
    found = _read_all(find_documents(documents), documents, earlier, sink)
    if not found:
        raise DataError(
            "no document could be read", where=documents, hint="see the warnings for each file"
        )
    texts = {
        source: [chunk.indexed for chunk in document.chunks] for source, document in found.items()
    }
    together = [text for own in texts.values() for text in own]
    keywords = Keywords.of(together, [len(own) for own in texts.values()], language_of(together))
    if embed is None:
        return Index(found, keywords)
    known = _known_vectors(earlier, found, embed)
    parts = []
    for number, (source, own) in enumerate(texts.items(), start=1):
        parts.append(known[source] if source in known else embed.embed(own))
        sink(Progress("embedding documents", number, len(texts)))
    vectors = np.concatenate(parts).astype(np.float32, copy=False)
    return Index(found, keywords, vectors, embed.name)


def update_index(
    documents: Path, folder: Path, *, embed: Embedder | None = None, sink: Sink = no_sink
) -> Index:
    """Return the index of a folder of documents, kept in `folder` and brought up to date there."""
    earlier = None
    if (folder / "index.json").exists():
        try:
            earlier = Index.open(folder)
        except RunError as error:
            sink(Warned(f"{error.message}; building it anew"))
    index = build_index(documents, embed=embed, earlier=earlier, sink=sink)
    if earlier is None or earlier.hash != index.hash:
        index.save(folder)
    return index


def _read_all(
    paths: Sequence[Path], folder: Path, earlier: Index | None, sink: Sink
) -> dict[str, IndexedDocument]:
    known = earlier.documents if earlier is not None else {}
    found = {}
    for number, path in enumerate(paths, start=1):
        try:
            found[source_of(path, folder)] = _read(path, folder, known)
        except InputError as error:
            sink(Warned(f"{error.where}: {error.message}; left out ({error.hint})"))
        sink(Progress("reading documents", number, len(paths)))
    return found


def _read(path: Path, folder: Path, known: dict[str, IndexedDocument]) -> IndexedDocument:
    same = known.get(source_of(path, folder))
    if same is not None and same.hash == hash_file(path):
        return same
    document = read_document(path, folder)
    return IndexedDocument(document.hash, tuple(chunks_of(document)))


def _known_vectors(
    earlier: Index | None, found: dict[str, IndexedDocument], embed: Embedder
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of documents that did not change, by their source."""
    if earlier is None or earlier.vectors is None or earlier.embedder != embed.name:
        return {}
    known, begin = {}, 0
    for source, document in earlier.documents.items():
        end = begin + len(document.chunks)
        if source in found and found[source].hash == document.hash:
            known[source] = earlier.vectors[begin:end]
        begin = end
    return known
