"""Read free texts for pre-training and prefer those in simple English.

The folder holds ``*.jsonl.zst`` files with ``source`` and ``text``. Documents are whole
paragraphs of about 100 to 200 words. The score of a document is the mean number of words in a
sentence, plus ``RARE_WEIGHT`` times the share of words that are not among the ``COMMON`` most
frequent words of the folder; lower is simpler. Picture-book stories are always taken.

Run: ``python -m recipes.tiny_base.corpus FOLDER --words 100000`` prints what would be taken.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

COMMON = 2000
RARE_WEIGHT = 150.0
_MIN_WORDS, _MAX_WORDS, _LONGEST = 100, 200, 260
# Tokenised reviews in lower case, and old English: not the language to learn.
_SKIPPED = ("movie_reviews", "shakespeare", "genesis")
_ALWAYS = "asp/"
_WORD = re.compile(r"[a-z']+")
_SENTENCE_END = re.compile(r"[.!?]+[\"')]*(?:\s|$)")
# Curly quotes, long dashes and the byte order mark, by their code points.
_CLEAN = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xFEFF: ""}
_PLAIN_TEXT = re.compile(r"[\x20-\x7e]+")


def _books(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.jsonl.zst")):
        with path.open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                book = json.loads(line)
                if not any(name in book["source"] for name in _SKIPPED):
                    yield book["source"], book["text"]


def _paragraphs(source: str, text: str) -> Iterator[str]:
    """Yield the paragraphs on one line each; headings, notes and licences are left out."""
    for block in re.split(r"\n\s*\n|\n##[^\n]*\n", text.translate(_CLEAN)):
        lines = [line.strip() for line in block.splitlines()]
        kept = [line for line in lines if line and not line.startswith(("#", "* "))]
        paragraph = " ".join(" ".join(kept).replace("_", "").replace("--", " - ").split())
        if not _PLAIN_TEXT.fullmatch(paragraph) or paragraph.isupper():
            continue
        # Verse, contents and headings do not end like a sentence.
        if source.startswith(_ALWAYS) or paragraph.endswith((".", "!", "?", '"', "'", ":", ",")):
            yield paragraph


def _cut(source: str, text: str) -> Iterator[str]:
    """Join paragraphs into documents; of a picture book the short end is kept as well."""
    held: list[str] = []
    size = 0
    for paragraph in _paragraphs(source, text):
        words = len(paragraph.split())
        if size and size + words > _MAX_WORDS:
            if size >= _MIN_WORDS or source.startswith(_ALWAYS):
                yield "\n".join(held)
            held, size = [], 0
        if words <= _LONGEST:
            held.append(paragraph)
            size += words
    if held and (size >= _MIN_WORDS or source.startswith(_ALWAYS)):
        yield "\n".join(held)


def documents(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every document of the folder with its source, in a fixed order."""
    for source, text in _books(folder):
        for document in _cut(source, text):
            yield source, document


def common_words(texts: Iterable[str]) -> frozenset[str]:
    """Find the most frequent words of some texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text.lower()))
    return frozenset(word for word, _ in counts.most_common(COMMON))


def score(text: str, common: frozenset[str]) -> float:
    """Rate how hard a text is to read; lower is simpler."""
    words = _WORD.findall(text.lower())
    if not words:
        return float("inf")
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    rare = sum(word not in common for word in words) / len(words)
    return len(words) / sentences + RARE_WEIGHT * rare


def simple_documents(folder: Path, max_words: int) -> list[tuple[str, str]]:
    """Take the picture books, then the simplest documents until the budget is spent."""
    found = list(documents(folder))
    common = common_words(text for _, text in found)
    ranked = sorted(
        enumerate(found),
        # The place in the folder settles ties, so the choice is always the same.
        key=lambda entry: (
            not entry[1][0].startswith(_ALWAYS),
            score(entry[1][1], common),
            entry[0],
        ),
    )
    taken: list[tuple[str, str]] = []
    spent = 0
    for _, (source, text) in ranked:
        spent += len(text.split())
        if spent > max_words and not source.startswith(_ALWAYS):
            break
        taken.append((source, text))
    return taken


def main() -> None:
    """Print how many documents and words a budget takes from each source."""
    parser = argparse.ArgumentParser(description="Show which simple texts a word budget takes.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--words", type=int, default=100_000)
    args = parser.parse_args()
    taken = simple_documents(args.folder, args.words)
    sizes: Counter[str] = Counter()
    for source, text in taken:
        sizes[source.rsplit("/", 1)[0]] += len(text.split())
    print(f"{len(taken)} documents, {sum(sizes.values())} words")
    for name, words in sizes.most_common():
        print(f"{words:>9}  {name}")


if __name__ == "__main__":
    main()
