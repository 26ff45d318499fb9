"""Graders of support: `grounded` (in the source) and `citations` (in what is cited)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from tunefork.graders.content import (
    chunks_by_name,
    content_words,
    number_values,
    prose,
    sentences,
    source_texts,
    without_list_marks,
)
from tunefork.graders.grade import Failure, Grade, Grader, failed, pass_or_fail, share, shown
from tunefork.graders.text import Text

_CITATION = re.compile(r"\[(?P<names>[^\[\]\n]{1,80})\](?!\()")  # not a link
_LATE_CITATION = re.compile(r"([.!?])\s*((?:\[[^\[\]\n]{1,80}\][ \t]*)+)")
_NO_SOURCE = Failure(
    "invalid_variable_error", "the question brings no `source` and no `chunks` to compare with"
)
Share = Annotated[float, Field(gt=0, le=1)]


class Grounded(Grader):
    """The answer's content words and numbers are found in the source.

    The source is `source`, else the question's `chunks` and `source`; what the question itself
    says may be repeated. The score is the share that is found; one minus it is a cheap rate of
    hallucination. A number that is not in the source fails the answer whatever the share.
    """

    type: Literal["grounded"] = "grounded"
    source: Text | None = None
    minimum: Share = 0.8
    reference_setting = None
    uses_item = True

    def grade(self, answer: str) -> Grade:
        """Look up each word and number."""
        texts = [self.source] if self.source else source_texts(self._item)
        if not texts:
            return failed(_NO_SOURCE)
        known = "\n".join([*texts, str(self._item.get("question", ""))])
        text = _without_citations(prose(answer), chunks_by_name(self._item.get("chunks")))
        said, figures = content_words(text), number_values(text)
        if not said and not figures:
            return pass_or_fail(False, "says nothing that could be looked up")
        strange = sorted(said - content_words(known))
        invented = sorted(figures - number_values(known))
        n_all, n_strange = len(said) + len(figures), len(strange) + len(invented)
        detail = f"{n_strange / n_all:.0%} not in the source" + _listed(strange, invented)
        grade = share(n_all - n_strange, n_all, self.minimum, detail)
        return grade if not invented else Grade(grade.score, False, detail)

    def describe(self) -> str:
        """Name the share."""
        return f"says what the source says ({self.minimum:.0%} of its words, all its numbers)"


class Citations(Grader):
    """Each sentence cites a chunk that supports it, as in `It opens at nine [2].`.

    The chunks come with the question, as `chunks`; `[2]` is the second of them or the one with
    the id `2`, and `[1, 3]` cites both. A sentence is supported if every chunk that it cites
    exists, at least `minimum` of its content words are in them, and all of its numbers. The
    score is the share of supported sentences; passed only when all are.
    """

    type: Literal["citations"] = "citations"
    minimum: Share = 0.5
    reference_setting = None
    uses_item = True

    def grade(self, answer: str) -> Grade:
        """Check sentence by sentence; the first fault is the detail."""
        chunks = chunks_by_name(self._item.get("chunks"))
        if not chunks:
            missing = Failure("invalid_variable_error", "the question brings no `chunks` to cite")
            return failed(missing)
        parts = [part for part in _with_citations(answer) if content_words(_bare(part))]
        if not parts:
            return pass_or_fail(False, "says nothing that could be supported")
        faults = [fault for part in parts if (fault := self._fault(part, chunks))]
        detail = faults[0] if faults else f"all {len(parts)} sentences are supported"
        return share(len(parts) - len(faults), len(parts), 1.0, detail)

    def describe(self) -> str:
        """Say what is asked."""
        return "cites a chunk that supports it in every sentence"

    def _fault(self, sentence: str, chunks: Mapping[str, str]) -> str | None:
        names = _cited(sentence)
        text = _bare(sentence)
        if not names:
            return f"cites nothing: {shown(text)}"
        unknown = [name for name in names if name not in chunks]
        if unknown:
            return f"cites {shown(unknown[0])}, which does not exist"
        source = "\n".join(chunks[name] for name in names)
        invented = number_values(text) - number_values(source)
        if invented:
            return f"{min(invented):g} is not in what is cited: {shown(text)}"
        said = content_words(text)
        if len(said & content_words(source)) < self.minimum * len(said):
            return f"not supported by {shown(', '.join(names))}: {shown(text)}"
        return None


def _with_citations(answer: str) -> list[str]:
    """Return the sentences; a citation behind the full stop belongs to the one before."""
    return list(sentences(_LATE_CITATION.sub(r" \2\1 ", without_list_marks(answer))))


def _cited(sentence: str) -> list[str]:
    groups = (match["names"] for match in _CITATION.finditer(sentence))
    return [name.strip().removeprefix("^") for group in groups for name in group.split(",")]


def _bare(sentence: str) -> str:
    return re.sub(r"\s+([.!?,;])", r"\1", " ".join(_CITATION.sub(" ", sentence).split()))


def _without_citations(text: str, chunks: Mapping[str, str]) -> str:
    """Return a text without the names of chunks, which are no part of what it says."""
    return _CITATION.sub(
        lambda match: " " if set(_cited(match.group())) <= set(chunks) else match.group(), text
    )


def _listed(strange: list[str], invented: list[float]) -> str:
    missing = [f"{number:g}" for number in invented] + strange
    return f": {', '.join(missing[:5])}" if missing else ""
