"""Questions that the model is judged by and must not be trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip
from tunefork.data.doctor.rows import plain


def validation(context: Context) -> Iterator[Finding]:
    """Report validation prompts that are also trained on."""
    prompts = [row.prompt for row in context.validation]
    yield from _leaks(
        context,
        "leak.validation",
        prompts,
        "validation prompts are also in the training data"
        "; what is measured on them is memory, not skill",
    )


def golden(context: Context) -> Iterator[Finding]:
    """Report golden questions that are also trained on."""
    yield from _leaks(
        context,
        "leak.golden",
        context.golden,
        "golden questions are also in the training data; the gate would prove nothing",
    )


def _leaks(context: Context, code: str, texts: Sequence[str], what: str) -> Iterator[Finding]:
    if not texts:
        return
    trained: dict[str, list[int]] = {}
    for row in context.rows:
        for text in {plain(asked) for asked in (*row.asked, row.prompt)}:
            trained.setdefault(text, []).append(row.number)
    leaked = [(text, trained[plain(text)]) for text in texts if plain(text) in trained]
    if not leaked:
        return
    numbers = sorted({number for _, found in leaked for number in found})
    yield Finding(
        code,
        "error",
        len(leaked),
        tuple(numbers),
        f"{len(leaked):,} of {len(texts):,} {what}",
        f"remove these {len(numbers):,} rows from the training file (`--fix` does), "
        "or the questions",
        clip(leaked[0][0]),
        leaked[0][1][0],
    )
