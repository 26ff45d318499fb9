"""Keyword search: BM25 over chunks, together with BM25 over the documents that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.retrieval.synonyms import Term, alternatives
from tunefork.retrieval.words import asked_words, every_word, words_of

_PARTS = ("chunks", "documents")
_OTHER_NAME = 0.6  # what a word counts that was not asked with, but means the same


class Keywords:
    """Scores chunks by the words that they share with a question.

    A chunk's score is its BM25 (Robertson & Zaragoza 2009, as Lucene counts it) plus that of its
    whole document: a passage seldom repeats what its page is about. A word that has other names
    counts by the best of them, at 0.6, where that is more than it counts itself.
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
        found = self._together(asked_words(question, self.language), document_of)
        words = every_word(question, self.language)
        for term, others in alternatives(words, self.language).items():
            own = self._together(term, document_of)
            best = np.max([self._named(other, document_of) for other in others], axis=0)
            found += np.maximum(_OTHER_NAME * best - own, 0)
        return found

    def _together(
        self, words: Sequence[str], document_of: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return what words score in all."""
        scores = _scores(self._chunks, words) + _scores(self._documents, words)[document_of]
        return scores.astype(np.float32, copy=False)

    def _named(self, term: Term, document_of: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what a term scores: nothing where a document lacks a word of it."""
        if len(term) == 1:
            return self._together(term, document_of)
        scores = np.array([self._together((word,), document_of) for word in term])
        # Several words that mean one thing are more than one word, and less than all of them.
        together: NDArray[np.float32] = scores.sum(0) / np.sqrt(len(term), dtype=np.float32)
        return together * (scores > 0).all(0)

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
