"""Other words for what a question asks with: people say `boss` where the page says `supervisor`.

The list is of office English, for documents that an organisation writes about itself. Questions in
other languages, and words that it does not hold, are searched by themselves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tunefork.retrieval.words import every_word

Term = tuple[str, ...]  # the stems of a word, or of several that mean one thing together

_LIST = Path(__file__).with_name("office_english.txt")
_LANGUAGE = "en"


def alternatives(words: Sequence[str], language: str) -> dict[Term, tuple[Term, ...]]:
    """Return the terms among a question's words that have other names, each with those.

    Args:
        words: All stems of the question, in its order.
        language: An ISO 639-1 code.
    """
    if language != _LANGUAGE:
        return {}
    known = _terms()
    longest = max(map(len, known))
    spans = (
        tuple(words[begin : begin + length])
        for begin in range(len(words))
        for length in range(1, longest + 1)
    )
    return {span: known[span] for span in spans if span in known}


@cache
def _terms() -> dict[Term, tuple[Term, ...]]:
    """Return each term of the list with all others of the groups that it stands in."""
    found: dict[Term, dict[Term, None]] = {}
    for line in _LIST.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            group = [tuple(every_word(term, _LANGUAGE)) for term in line.split(",")]
            for term in group:
                found.setdefault(term, {}).update(dict.fromkeys(group))
    return {
        term: tuple(other for other in others if other != term) for term, others in found.items()
    }
