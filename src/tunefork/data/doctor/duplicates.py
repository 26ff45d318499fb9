"""Rows that say the same twice, and rows that answer the same question differently."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip, on_rows
from tunefork.data.doctor.rows import Row, groups

# Words that may come and go without changing what is asked. No negation, no question word.
_FILLERS = re.compile(
    r"\b(?:a|an|the|please|pls|kindly|hi|hello|hey|thanks|thank you|just|could you|can you|"
    r"would you|will you|i want to|i would like to|i d like to|do you know|tell me|me|to|so|"
    r"of|is|are|s)\b"
)
_SHARE_OF_MANY, _GROUPS_OF_MANY = 0.3, 20
_SHARE_OF_FEW, _ANSWERS_OF_FEW = 0.5, 3.0


def exact(context: Context) -> Iterator[Finding]:
    """Report rows that are the same as an earlier one."""
    seen: set[str] = set()
    again: list[Row] = []
    for row in context.rows:
        key = row_key(row)
        if key in seen:
            again.append(row)
        seen.add(key)
    yield from on_rows(
        "duplicate.exact",
        "warning",
        again,
        "the same as an earlier one but for case and punctuation",
        "remove them (`--fix` does), or they weigh more than the rest",
        clip(again[0].prompt) if again else "",
    )


def row_key(row: Row) -> str:
    """Return a text that is equal for rows that teach the same."""
    return f"{row.prompt_key}\n\n{row.answer_key}"


def near(context: Context) -> Iterator[Finding]:
    """Report rows that are nearly the same as an earlier one."""
    pairs = {pair.second: pair for pair in reversed(context.near)}
    again = [context.rows[at] for at in sorted(pairs)]
    example = ""
    if again:
        best = max(pairs.values(), key=lambda pair: pair.similarity)
        one, other = context.rows[best.first], context.rows[best.second]
        example = f"rows {one.number} and {other.number}: {clip(one.prompt, 70)} / " + clip(
            other.prompt, 70
        )
    yield from on_rows(
        "duplicate.near",
        "note",
        again,
        "nearly the same as an earlier one",
        "keep them if the small difference matters, else keep one of each pair",
        example,
    )


def conflict(context: Context) -> Iterator[Finding]:
    """Report prompts that have different answers, unless that is how the data is meant."""
    rows = context.rows
    same = _Conflicts(rows, [row.prompt_key for row in rows])
    if same.are_meant and not context.labels:
        yield Finding(
            "one_to_many",
            "note",
            len(same.found),
            same.numbers,
            f"{len(same.found):,} of {same.n_prompts:,} prompts have several answers, "
            f"{same.answers_per_prompt:.1f} each: taken as meant",
            "nothing to do if every one of them is a good answer",
            *same.example(),
        )
        return
    if same.found:
        what = "1 prompt has" if len(same.found) == 1 else f"{len(same.found):,} prompts have"
        yield Finding(
            "conflict",
            "warning",
            len(same.found),
            same.numbers,
            f"{what} different answers",
            "decide which answer is right and remove the others; the model would learn to guess",
            *same.example(),
        )
    # What is nearly the same question, leaving out the prompts that are quite the same.
    first_of = {row.prompt_key: at for at, row in reversed(list(enumerate(rows)))}
    firsts = [rows[at] for at in sorted(first_of.values())]
    nearly = _Conflicts(firsts, [_question(row) for row in firsts])
    if nearly.found:
        what = "1 question" if len(nearly.found) == 1 else f"{len(nearly.found):,} questions"
        yield Finding(
            "conflict.near",
            "note",
            len(nearly.found),
            nearly.numbers,
            f"{what}, worded nearly alike, with different answers",
            "look at some: keep them where each answer is right, else decide for one",
            *nearly.example(),
        )


class _Conflicts:
    """Rows whose keys are equal and whose answers differ."""

    def __init__(self, rows: list[Row], keys: list[str]) -> None:
        self.found: list[list[Row]] = []
        self.n_prompts = len(set(keys))
        n_answers = 0
        for places in groups(keys):
            group = [rows[at] for at in places]
            answers = {row.answer_key for row in group}
            if len(answers) > 1:
                self.found.append(group)
                n_answers += len(answers)
        self.answers_per_prompt = n_answers / max(1, len(self.found))

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(row.number for group in self.found for row in group)

    @property
    def are_meant(self) -> bool:
        """Whether so many prompts have several answers that it is no accident."""
        share = len(self.found) / max(1, self.n_prompts)
        is_common = share >= _SHARE_OF_MANY and len(self.found) >= _GROUPS_OF_MANY
        is_rich = share >= _SHARE_OF_FEW and self.answers_per_prompt >= _ANSWERS_OF_FEW
        return is_common or is_rich

    def example(self) -> tuple[str, int]:
        first, *rest = self.found[0]
        other = next(row for row in rest if row.answer_key != first.answer_key)
        text = f"{clip(first.prompt, 60)} → {clip(first.answer, 60)} / {clip(other.answer, 60)}"
        return text, first.number


def _question(row: Row) -> str:
    """Return what is asked, without the words that do not change it."""
    return " ".join(_FILLERS.sub(" ", row.prompt_key).split()) or row.prompt_key
