"""An index of documents: kept in a folder, opened and searched.

index.json              settings, the folder of its files, each document's hash and chunks
<hash>/chunks.jsonl     the chunks, document by document
<hash>/keywords/        what bm25s keeps
<hash>/vectors.npy      float32 (chunks, size), where an embedding model was given
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import InputError, RunError
from tunefork.core.files import new_folder, read_json, write_json, write_text
from tunefork.core.hashing import hash_json
from tunefork.retrieval.chunks import Chunk
from tunefork.retrieval.embedder import Embedder
from tunefork.retrieval.fuse import reciprocal_ranks
from tunefork.retrieval.keywords import Keywords

How = Literal["keywords", "vectors", "hybrid"]
_VERSION = 1
_POOL = 100  # of each ranked list: what stands behind adds next to nothing


@dataclass(frozen=True)
class IndexedDocument:
    """A document's hash when it was read, and its chunks."""

    hash: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Hit:
    """A chunk that was found."""

    chunk: Chunk
    score: float  # larger is better; its scale depends on how it was searched


class Index:
    """Chunks of documents, and what finds them.

    Attributes:
        documents: Each by its source, in the order of their chunks.
        chunks: All of them.
        vectors: One per chunk, (chunks, size), or None.
        embedder: The name of what made the vectors.
    """

    def __init__(
        self,
        documents: dict[str, IndexedDocument],
        keywords: Keywords,
        vectors: NDArray[np.float32] | None = None,
        embedder: str | None = None,
    ) -> None:
        self.documents = documents
        self.chunks = [chunk for document in documents.values() for chunk in document.chunks]
        self.vectors = vectors
        self.embedder = embedder
        self._keywords = keywords
        sizes = [len(document.chunks) for document in documents.values()]
        self._document_of = np.repeat(np.arange(len(sizes)), sizes)  # (chunks,)

    @property
    def hash(self) -> str:
        """One hash over all that it holds."""
        hashes = {source: document.hash for source, document in self.documents.items()}
        return hash_json([_VERSION, hashes, self._keywords.language, self.embedder])

    def search(
        self,
        question: str,
        k: int = 5,
        *,
        how: How = "hybrid",
        embed: Embedder | None = None,
        spread: bool = True,
    ) -> list[Hit]:
        """Return the k best chunks; fewer where fewer have anything in common with the question.

        Args:
            question: What is looked for.
            k: How many at most.
            how: By words (BM25), by nearness of vectors (cosine), or by both, fused by reciprocal
                rank. Without vectors it is always by words.
            embed: The model that made the vectors.
            spread: Take each document's best chunk before any document's second: k chances to
                meet the right document. Without it the best come first whatever they are of.

        Raises:
            InputError: `embed` is not the model that made the vectors.
        """
        ranked = self._ranked(question, max(k, _POOL), how, embed)
        if spread:
            ranked = self._spread(ranked)
        return [Hit(self.chunks[number], score) for number, score in ranked[:k]]

    def save(self, folder: Path) -> None:
        """Write it into a folder; one that is there stays in use until this one is whole."""
        name = self.hash.removeprefix("sha256:")[:16]
        with new_folder(folder / name) as new:
            write_text(
                new / "chunks.jsonl",
                "".join(json.dumps(asdict(c), ensure_ascii=False) + "\n" for c in self.chunks),
            )
            self._keywords.save(new / "keywords")
            if self.vectors is not None:
                np.save(new / "vectors.npy", self.vectors)
        documents = [
            {"source": source, "hash": document.hash, "chunks": len(document.chunks)}
            for source, document in self.documents.items()
        ]
        record = {
            "version": _VERSION,
            "files": name,
            "language": self._keywords.language,
            "embedder": self.embedder,
            "documents": documents,
        }
        write_json(folder / "index.json", record)
        for other in folder.iterdir():  # of earlier indexes, also of one that was never whole
            if other.is_dir() and other.name != name:
                shutil.rmtree(other, ignore_errors=True)

    @classmethod
    def open(cls, folder: Path) -> Index:
        """Read what `save` wrote.

        Raises:
            RunError: It is not there, damaged, or of another version.
        """
        record = read_json(folder / "index.json")
        if record.get("version") != _VERSION:
            raise _damaged(folder, f"it is of version {record.get('version')}")
        try:
            files = folder / record["files"]
            documents = _documents(record["documents"], files / "chunks.jsonl")
            keywords = Keywords.open(files / "keywords", str(record["language"]))
            vectors = None
            if record["embedder"] is not None:
                vectors = np.load(files / "vectors.npy", allow_pickle=False)
        except (OSError, ValueError, LookupError, TypeError, StopIteration, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise _damaged(folder, reason) from error
        return cls(documents, keywords, vectors, record["embedder"])

    def _ranked(
        self, question: str, n: int, how: How, embed: Embedder | None
    ) -> list[tuple[int, float]]:
        if self.vectors is None or embed is None or how == "keywords":
            return self._by_words(question, n)
        if embed.name != self.embedder:
            raise InputError(
                f"the vectors are by `{self.embedder}`, the question would be by `{embed.name}`",
                hint="bring the index up to date with the model that you search with",
            )
        near = _best(self.vectors @ embed.embed([question])[0], n)
        if how == "vectors":
            return near
        lists = [[number for number, _ in found] for found in (self._by_words(question, n), near)]
        return reciprocal_ranks(lists)

    def _by_words(self, question: str, n: int) -> list[tuple[int, float]]:
        scores = self._keywords.scores(question, self._document_of)
        return [(number, score) for number, score in _best(scores, n) if score > 0]

    def _spread(self, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
        seen: Counter[int] = Counter()
        turns = []
        for number, _ in ranked:
            document = int(self._document_of[number])
            turns.append(seen[document])
            seen[document] += 1
        order = sorted(range(len(ranked)), key=turns.__getitem__)  # a stable sort
        return [ranked[place] for place in order]


def _best(scores: NDArray[np.float32], n: int) -> list[tuple[int, float]]:
    """Return the n largest with their places; the first of equals first, so it can be repeated."""
    order = np.argsort(-scores, kind="stable")[:n]
    return [(int(number), float(scores[number])) for number in order]


def _documents(rows: Sequence[dict[str, Any]], path: Path) -> dict[str, IndexedDocument]:
    chunks = iter([_chunk(json.loads(line)) for line in path.read_bytes().splitlines()])
    return {
        str(row["source"]): IndexedDocument(
            str(row["hash"]), tuple([next(chunks) for _ in range(row["chunks"])])
        )
        for row in rows
    }


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(row["text"], row["source"], tuple(row["headings"]), row["page"])


def _damaged(folder: Path, reason: str) -> RunError:
    return RunError(
        f"the document index is damaged: {reason}",
        where=folder,
        hint="delete the folder; it is built anew from the documents",
    )
