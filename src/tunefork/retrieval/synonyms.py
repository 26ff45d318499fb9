"""Other words for what a question asks with: people say `boss` where the page says `supervisor`.

The lists are of office English, for documents that an organisation writes about itself, and of
everyday English, in which people ask. Questions in other languages, and words that no list holds,
are searched by themselves alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tunefork.retrieval.words import every_word

Term = tuple[str, ...]  # the stems of a word, or of several that mean one thing together

_LISTS = ("office_english.txt", "everyday_english.txt")
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
    """Return each term of the lists with all others of the groups that it stands in."""
    found: dict[Term, dict[Term, None]] = {}
    for line in _lines():
        group = dict.fromkeys(tuple(every_word(term, _LANGUAGE)) for term in line.split(","))
        for term in group if len(group) > 1 else ():
            found.setdefault(term, {}).update(group)
    return {
        term: tuple(other for other in others if other != term) for term, others in found.items()
    }


def _lines() -> list[str]:
    folder = Path(__file__).parent
    read = [line for name in _LISTS for line in (folder / name).read_text("utf-8").splitlines()]
    return [line for line in read if line.strip() and not line.startswith("#")]
