"""Rows in another language than the rest.

Scripts tell languages of different alphabets apart in any text; py3langid
(https://github.com/adbar/py3langid) tells the others apart where there is enough of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip, on_rows
from tunefork.data.doctor.rows import Row

_LEAST_WORDS, _LEAST_LETTERS = 6, 30
_SURE = 0.9  # probability of the language
_USUAL_SHARE = 0.9
_ENOUGH_TEXTS = 20
_READ_LETTERS = 400
_NOISE = re.compile(r"```.*?```|`[^`]*`|https?://\S+|\{\{.*?\}\}|\[[^\]]*\]|[\d_]", re.DOTALL)
# Languages that a classifier takes for one another in a sentence.
_ALIKE = tuple(
    set(group.split())
    for group in (
        "en pcm sco",
        "no nb nn da sv",
        "es gl pt an ast ca oc",
        "hr bs sr sl",
        "cs sk",
        "id ms jv",
        "de lb nl af",
        "ru uk be bg mk",
        "zh ja",
        "hi mr ne",
        "fr oc wa",
    )
)


def mixed(context: Context) -> Iterator[Finding]:
    """Report answers in another language than nine in ten of them."""
    if context.labels:
        return
    classify = _classifier()
    found = [(row, _language(row.answer, classify)) for row in context.rows]
    known = [(row, language) for row, language in found if language]
    if len(known) < _ENOUGH_TEXTS:
        return
    counts = Counter(language for _, language in known)
    usual, n_usual = counts.most_common(1)[0]
    if n_usual < _USUAL_SHARE * len(known):
        yield from _several(known, counts)
        return
    alike = set().union({usual}, *(group for group in _ALIKE if usual in group))
    others = [row for row, language in known if language not in alike]
    which = Counter(language for _, language in known if language not in alike)
    names = ", ".join(f"`{name}`" for name, _ in which.most_common(4))
    yield from on_rows(
        "language.mixed",
        "warning",
        others,
        f"whose answer is in another language ({names}) than the rest (`{usual}`)",
        "remove or translate them, unless the model is to answer in several languages",
        clip(others[0].answer) if others else "",
    )


def _several(known: Sequence[tuple[Row, str]], counts: Counter[str]) -> Iterator[Finding]:
    parts = ", ".join(f"`{name}` {n / len(known):.0%}" for name, n in counts.most_common(4))
    second = counts.most_common(2)[1][0]
    rows = [row for row, language in known if language == second]
    yield Finding(
        "language.mixed",
        "note",
        len(rows),
        tuple(row.number for row in rows),
        f"the answers are in several languages: {parts}",
        "nothing to do if the model is to answer in all of them",
        clip(rows[0].answer),
        rows[0].number,
    )


def _language(text: str, classify: Callable[[str], str]) -> str:
    """Return a language or a script; nothing where the text is too short to tell."""
    prose = _NOISE.sub(" ", text[:_READ_LETTERS])
    if not prose.isascii():
        script = _script(prose)
        if script not in ("", "LATIN"):
            return script.lower()
    if len(prose) < _LEAST_LETTERS or len(prose.split()) < _LEAST_WORDS:
        return ""
    return classify(prose)


def _script(text: str) -> str:
    """Return the script of most letters."""
    counts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    if not counts:
        return ""
    script, n = counts.most_common(1)[0]
    return script if n >= 0.6 * sum(counts.values()) else ""


@cache
def _script_of(letter: str) -> str:
    name = unicodedata.name(letter, "").split(" ")[0]
    return {"CJK": "CHINESE", "HIRAGANA": "JAPANESE", "KATAKANA": "JAPANESE"}.get(name, name)


def _classifier() -> Callable[[str], str]:
    @cache  # loaded where there is a text to classify: that takes longer than all of a small file
    def identifier() -> Any:
        from py3langid.langid import (  # type: ignore[import-untyped]
            MODEL_FILE,
            LanguageIdentifier,
        )

        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def classify(text: str) -> str:
        language, probability = identifier().classify(text.casefold())
        return str(language) if probability >= _SURE else ""

    return classify
