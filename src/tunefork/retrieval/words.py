"""Text to the words that keyword search matches by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

_WORD = re.compile(r"\w+")
_SAMPLE = 20_000  # characters that tell the language
# ISO 639-1 code → Snowball stemmer (Porter 2001).
_STEMMERS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "es": "spanish", "eu": "basque", "fi": "finnish", "fr": "french",
    "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip
# ISO 639-1 code → bm25s's list of words that say nothing of what a question is about.
_STOP_WORDS = {
    "da": "DANISH", "de": "GERMAN", "en": "EN_PLUS", "es": "SPANISH", "fr": "FRENCH",
    "it": "ITALIAN", "nl": "DUTCH", "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN",
    "sv": "SWEDISH", "tr": "TURKISH",
}  # fmt: skip


def language_of(texts: Sequence[str]) -> str:
    """Return the ISO 639-1 code of the language that most of some texts is in."""
    import py3langid  # type: ignore[import-untyped]

    code, _ = py3langid.classify("\n".join(texts)[:_SAMPLE])
    return str(code)


def words_of(texts: Sequence[str], language: str) -> list[list[str]]:
    """Return the words of each text, in small letters and without their endings.

    Args:
        texts: What to cut.
        language: An ISO 639-1 code; one without a stemmer keeps its endings.
    """
    return _stemmed([_WORD.findall(text.lower()) for text in texts], language)


def every_word(text: str, language: str) -> list[str]:
    """Return the words of one text as `words_of` does."""
    return words_of([text], language)[0]


def asked_words(question: str, language: str) -> list[str]:
    """Return the words of a question that search goes by: all where it has stop words only."""
    found = _WORD.findall(question.lower())
    telling = [word for word in found if word not in _stop_words(language)]
    return _stemmed([telling or found], language)[0]


def _stemmed(texts: list[list[str]], language: str) -> list[list[str]]:
    stemmer = _stemmer(language)
    return texts if stemmer is None else [stemmer.stemWords(words) for words in texts]


@cache
def _stop_words(language: str) -> frozenset[str]:
    from bm25s import stopwords

    name = _STOP_WORDS.get(language)
    return frozenset(getattr(stopwords, f"STOPWORDS_{name}") if name is not None else ())


@cache
def _stemmer(language: str) -> Any:
    import Stemmer

    name = _STEMMERS.get(language)
    return Stemmer.Stemmer(name) if name is not None else None
