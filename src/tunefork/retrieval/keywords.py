"""Keyword search: BM25 over chunks, together with BM25 over the documents that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.retrieval.words import asked_words, words_of

_PARTS = ("chunks", "documents")


class Keywords:
    """Scores chunks by the words that they share with a question.

    A chunk's score is its BM25 (Robertson & Zaragoza 2009, as Lucene counts it) plus that of its
    whole document: a passage seldom repeats what its page is about.
    """

    def __init__(self, language: str, chunks: Any, documents: Any) -> None:
        self.language = language  # ISO 639-1
        self._chunks = chunks  # bm25s.BM25
        self._documents = documents  # bm25s.BM25

    @classmethod
    def of(cls, texts: Sequence[str], sizes: Sequence[int], language: str) -> Keywords:
        """Index texts.

        Args:
            texts: The chunks', document by document.
            sizes: How many chunks each document has.
            language: An ISO 639-1 code.
        """
        words = words_of(texts, language)
        ends = np.cumsum(sizes).tolist()
        documents = [
            list(chain.from_iterable(words[end - size : end]))
            for end, size in zip(ends, sizes, strict=True)
        ]
        return cls(language, _bm25(words), _bm25(documents))

    def scores(self, question: str, document_of: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return a score per chunk: (chunks,); 0 where a document shares no word.

        Args:
            question: What is looked for.
            document_of: The number of each chunk's document: (chunks,).
        """
        asked = asked_words(question, self.language)
        scores = _scores(self._chunks, asked) + _scores(self._documents, asked)[document_of]
        return scores.astype(np.float32, copy=False)

    def save(self, folder: Path) -> None:
        """Write both indexes into a folder."""
        for name, part in zip(_PARTS, (self._chunks, self._documents), strict=True):
            part.save(folder / name, show_progress=False)

    @classmethod
    def open(cls, folder: Path, language: str) -> Keywords:
        """Read what `save` wrote."""
        import bm25s

        return cls(
            language, *(bm25s.BM25.load(folder / name, allow_pickle=False) for name in _PARTS)
        )


def _bm25(words: list[list[str]]) -> Any:
    import bm25s

    index = bm25s.BM25(method="lucene")
    index.index(words, show_progress=False)
    return index


def _scores(index: Any, asked: Sequence[str]) -> NDArray[np.float32]:
    known = [word for word in asked if word in index.vocab_dict]
    if not known:
        return np.zeros(index.scores["num_docs"], dtype=np.float32)
    found: NDArray[np.float32] = index.get_scores(known)
    return found
