"""What a text says, as far as counting goes: its content words and its numbers.

Content words are words without the English function words, case folded, with the plural `s`
taken off (Harman, "How Effective Is Suffixing?", 1991, the S stemmer). Numbers are compared by
value. Paraphrase is not seen: a low share of support asks for a look, it proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tunefork.graders.number import numbers
from tunefork.graders.similarity import words

_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about above after again against all also although am an and another any are aren as at be
    because been before being below between both but by can cannot could did do does doing don
    down during each either else ever every few for from further get had has have having he her
    here hers him his how however i if in into is isn it its itself just let like may me might
    mine more most much must my no nor not now of off often on once one only or other our ours
    out over own per please quite rather s same shall she should since so some still such t than
    that the their theirs them then there therefore these they this those though through thus to
    too under until up upon us use used very was we well were what when where whether which
    while who whom whose why will with within without would yes yet you your yours
        """,
    )
)
# Marks of form, not of content: `1.` and `-` before an item, `[2]` behind a statement.
_MARK = re.compile(r"^[ \t]*(?:[-*+•]|[0-9]{1,3}[.)])[ \t]+", re.MULTILINE)
_FOOTNOTE = re.compile(r"\[\^?[0-9]+(?:,\s*[0-9]+)*\]")
_SENTENCE = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"')\]]))\s+|\n+|(?<=[\u3002\uff01\uff1f])")


def without_list_marks(text: str) -> str:
    """Return a text whose list items have lost their bullets and numbers."""
    return _MARK.sub("", text)


def prose(text: str) -> str:
    """Return a text without list marks and footnotes, whose numbers say nothing."""
    return _FOOTNOTE.sub(" ", without_list_marks(text))


def content_words(text: str) -> set[str]:
    """Return what a text is about; numbers are not words."""
    return {
        _singular(word)
        for word in words(text)
        if word not in _FUNCTION_WORDS and not any(letter.isdigit() for letter in word)
    }


def number_values(text: str) -> set[float]:
    """Return the values of the numbers that a text holds; `45 %` is 45 and 0.45."""
    found: set[float] = set()
    for number in numbers(text):
        found.add(abs(number.value))
        if number.is_percent:
            found.add(abs(number.value) / 100)
    return found


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences and lines of a text that hold a word."""
    return (part.strip() for part in _SENTENCE.split(text) if part and words(part))


def source_texts(item: Mapping[str, object]) -> list[str]:
    """Return the texts of `item.chunks` and `item.source`, whichever there are."""
    texts = list(chunks_by_name(item.get("chunks")).values())
    source = item.get("source")
    return [*texts, source] if isinstance(source, str) else texts


def chunks_by_name(chunks: object) -> dict[str, str]:
    """Return chunks by what a citation calls them: their number from 1 on, and their `id`.

    Chunks are a list of texts or of objects with `text` and perhaps `id`, or an object of
    texts by id. Anything else is no chunk.
    """
    if isinstance(chunks, Mapping):
        return {str(name): text for name, text in chunks.items() if isinstance(text, str)}
    if not isinstance(chunks, list | tuple):
        return {}
    found: dict[str, str] = {}
    for number, chunk in enumerate(chunks, 1):
        text = chunk.get("text") if isinstance(chunk, Mapping) else chunk
        if isinstance(text, str):
            found[str(number)] = text
            if isinstance(chunk, Mapping) and "id" in chunk:
                found[str(chunk["id"])] = text
    return found


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word
