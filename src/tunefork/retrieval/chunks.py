"""Cut documents into chunks: what is indexed, retrieved, put into a prompt and cited."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from tunefork.retrieval.documents import Document, Section

_WORDS = 160  # about 220 tokens: five fit into a small model's context beside the question
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Chunk:
    """A passage, and where it stands."""

    text: str
    source: str
    headings: tuple[str, ...] = ()
    page: int | None = None

    @property
    def place(self) -> str:
        """Where a reader finds it: `leave.md > Sick leave`, or `form.pdf, page 2`."""
        if self.page is not None:
            return f"{self.source}, page {self.page}"
        return " > ".join((self.source, *self.headings))

    @property
    def indexed(self) -> str:
        """What search sees: file name and headings tell what a passage is about."""
        name = str(PurePosixPath(self.source).with_suffix("")).replace("_", " ")
        return "\n".join((name, *self.headings, self.text))


def chunks_of(document: Document, words: int = _WORDS) -> list[Chunk]:
    """Cut a document into chunks of at most `words` words.

    Paragraphs stay whole where they fit; longer ones are cut between sentences, and a sentence
    that is too long alone between words. Small neighbouring sections share a chunk under the
    headings that they have in common; pages never do, since they are what is cited.
    """
    parts = [(section, text) for section in document.sections for text in _cut(section.text, words)]
    return [_chunk(document.source, group) for group in _grouped(parts, words)]


_Part = tuple[Section, str]


def _grouped(parts: list[_Part], words: int) -> Iterator[list[_Part]]:
    taken: list[_Part] = []
    n_taken = 0
    for section, text in parts:
        # The headings stand in a text that several sections share, so they count too.
        n_words = len(" > ".join(section.headings).split()) + len(text.split())
        if taken and (n_taken + n_words > words or taken[-1][0].page != section.page):
            yield taken
            taken, n_taken = [], 0
        taken.append((section, text))
        n_taken += n_words
    if taken:
        yield taken


def _chunk(source: str, parts: list[_Part]) -> Chunk:
    shared = _shared([section.headings for section, _ in parts])
    texts = []
    for section, text in parts:
        own = " > ".join(section.headings[len(shared) :])
        texts.append(f"{own}\n{text}" if own else text)
    return Chunk("\n\n".join(texts), source, shared, parts[0][0].page)


def _shared(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what all paths of headings begin with."""
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))
    return tuple(level[0] for level in levels)


def _cut(text: str, words: int) -> Iterator[str]:
    return _packed(_pieces(text, words), words, "\n\n")


def _pieces(text: str, words: int) -> Iterator[str]:
    """Yield paragraphs, or parts of those that are too long."""
    for paragraph in re.split(r"\n\s*\n", text):
        if len(paragraph.split()) > words:
            yield from _packed(_sentences(paragraph, words), words, " ")
        elif paragraph.strip():
            yield paragraph.strip()


def _sentences(paragraph: str, words: int) -> Iterator[str]:
    for line in paragraph.splitlines():  # a long list is cut between its items
        for sentence in _SENTENCE.split(line):
            parts = sentence.split()
            for begin in range(0, len(parts), words):
                yield " ".join(parts[begin : begin + words])


def _packed(pieces: Iterator[str], words: int, between: str) -> Iterator[str]:
    """Join pieces in order, as many as stay within the limit together."""
    taken: list[str] = []
    n_taken = 0
    for piece in pieces:
        n_words = len(piece.split())
        if taken and n_taken + n_words > words:
            yield between.join(taken)
            taken, n_taken = [], 0
        taken.append(piece)
        n_taken += n_words
    if taken:
        yield between.join(taken)
