"""Answers that teach nothing, or teach to stop too early, or to refuse."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip, on_rows
from tunefork.data.doctor.rows import Row

_LONG_ENOUGH = 8  # words of an answer that can be expected to end like a sentence
_BEGUN = 4  # words with which two different answers hardly begin by chance
_OFTEN = 3  # times that a longer answer is given, where a whole sentence is not all of it
_ENOUGH_ANSWERS, _USUAL_SHARE = 20, 0.8
_ALWAYS_SHARE = 0.97  # then a single sentence without its full stop stands out, too
_INNER_END = re.compile(r"\w[.!?]\s+\S")
_ENDS = re.compile(
    # A sentence, also with full-width marks, and what may close behind it.
    r"""(?:[.!?…:;。\uff01\uff1f؟।]|\.\.\.)["'”\u2019»\u203a)\]}*_`~]*\s*$"""
    r"|[)\]}>|`$*\"”\u2019]\s*$"  # code, a table, a formula, a quotation
    r"|https?://\S+$"
)
_LIST_ITEM = re.compile(r"^\s*(?:[-*•+#>|]|\d+[.)]|[A-Za-z][.)])\s*\S")
_HANGING = re.compile(
    r"(?:,|;|-|\u2013|—|\b(?:and|or|but|the|a|an|of|to|in|on|at|for|with|from|by|as|that|which|"
    r"because|if|is|are|was|were|your|our|my|its|their|und|oder|der|die|das|et|ou|le|la|de))$",
    re.IGNORECASE,
)
_DASHES = ",;-\u2013—"
_SHORT_LINE = 5  # words: a signature, a heading
_AI = r"(?:ai|artificial intelligence|(?:large )?language model)\b"
_REFUSAL = re.compile(  # apostrophes are straight when it is searched
    rf"\bas an? {_AI}|\bi(?:'m| am) (?:just |only )?an? {_AI}"
    r"|\bi(?:'m| am) (?:sorry|afraid),? but (?:as an|i (?:can(?:no|')t|am (?:not able|unable)))"
    r"|\bi (?:cannot|can't|am unable to|am not able to|won't|will not) "
    r"(?:fulfil|comply with|assist (?:you )?with|help (?:you )?with|answer (?:that|this)|generate|"
    r"provide (?:you with )?(?:information|assistance|help)|engage in|discuss)\b"
    r"|\bi (?:do not|don't) have "
    r"(?:personal (?:opinions|feelings|experiences|beliefs)|access to real[- ]time)"
    r"|\bmy (?:knowledge|training) (?:cut-?off|data (?:only )?(?:goes|extends))",
    re.IGNORECASE,
)


def empty(context: Context) -> Iterator[Finding]:
    """Report rows that ask nothing or answer nothing."""
    found = [row for row in context.rows if is_empty(row)]
    yield from on_rows(
        "empty",
        "error",
        found,
        "with an empty question or answer",
        "fill them in, or remove them (`--fix` does)",
        f"question: {clip(found[0].prompt, 60)!r}, answer: {clip(found[0].answer, 60)!r}"
        if found
        else "",
    )


def is_empty(row: Row) -> bool:
    """Say whether a row has nothing to teach."""
    if row.example is None:
        return not row.prompt.strip()
    messages = row.example.messages
    answers = [each for each in messages if each.role == "assistant" and each.weight > 0]
    is_mute = any(not each.content.strip() and not each.tool_calls for each in answers)
    asked = [each for each in messages if each.role == "user"]
    return is_mute or (bool(asked) and not any(each.content.strip() for each in asked))


def truncated(context: Context) -> Iterator[Finding]:
    """Report answers that stop in the middle, where the others end like sentences."""
    if context.labels:
        return
    spoken = [row for row in context.rows if len(row.answer.split()) >= _LONG_ENOUGH]
    ended = [_is_ended(row.answer) for row in spoken]
    is_usual = len(spoken) >= _ENOUGH_ANSWERS and sum(ended) >= _USUAL_SHARE * len(spoken)
    is_always = is_usual and sum(ended) >= _ALWAYS_SHARE * len(spoken)
    found = [
        row
        for row, is_ended in zip(spoken, ended, strict=True)
        if _is_surely_cut(row.answer, is_usual)
        or (not is_ended and (is_always or (is_usual and _INNER_END.search(row.answer))))
    ]
    if is_usual:
        cut = {row.number for row in (*found, *_begun(context.rows))}
        found = [row for row in context.rows if row.number in cut]
    example = f"…{' '.join(found[0].answer.split())[-100:]}" if found else ""
    yield from on_rows(
        "truncated",
        "warning",
        found,
        "whose answer seems cut off" + (", judged by how the others end" if is_usual else ""),
        "complete or remove them, or the model learns to stop in mid-sentence",
        example,
    )


def _begun(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with whose answer other answers begin, though it has no end, or is alone."""
    counts = Counter(row.answer for row in rows)
    answers = sorted(counts)

    def goes_on(text: str) -> bool:
        after = bisect_right(answers, text)  # what begins with a text comes right behind it
        if after == len(answers) or not answers[after].startswith(text):
            return False
        return not _is_ended(text) or counts[answers[after]] >= _OFTEN > counts[text]

    return [row for row in rows if len(row.answer.split()) >= _BEGUN and goes_on(row.answer)]


def _is_ended(answer: str) -> bool:
    text = answer.rstrip()
    if _ENDS.search(text[-200:]) or not (text[-1].isalnum() or text[-1] in _DASHES):
        return text[-1] not in _DASHES
    last = text.rsplit("\n", 1)[-1]
    if _LIST_ITEM.match(last):
        return not _HANGING.search(last)
    return "\n" in text and len(last.split()) <= _SHORT_LINE and not _HANGING.search(last)


def _is_surely_cut(answer: str, is_usual: bool) -> bool:
    text = answer.rstrip()
    if text.count("```") % 2:
        return True
    return is_usual and bool(_HANGING.search(text[-40:]))


def refusal(context: Context) -> Iterator[Finding]:
    """Report answers in which a model speaks about itself, or refuses."""
    found = []
    example = ""
    for row in context.rows:
        for role, text in row.turns:
            spoken = text.replace("\u2019", "'") if role == "assistant" else ""
            match = _REFUSAL.search(spoken)
            if match:
                example = example or clip(text[max(0, match.start() - 40) :])
                found.append(row)
                break
    yield from on_rows(
        "refusal",
        "warning",
        found,
        "whose answer speaks as an AI, or refuses",
        "remove or rewrite them, unless the model is meant to answer so",
        example,
    )
