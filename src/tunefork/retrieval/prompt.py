"""Passages in front of a question, numbered so that an answer can cite them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from tunefork.retrieval.chunks import Chunk

_INSTRUCTION = (
    "Answer from these passages only, and put the number of the passage behind what it says, "
    "such as [1]. If they do not say it, say that you do not know."
)
_CITATION = re.compile(r"\[(\d+)\]")


Form = Literal["cited", "plain"]


def with_passages(question: str, chunks: Sequence[Chunk], form: Form = "cited") -> str:
    """Return a user turn that holds passages and then the question.

    `cited` numbers the passages and asks for the numbers; `plain` puts nothing but their text,
    which suits models too small to follow an instruction.
    """
    if form == "plain":
        return "\n\n".join([*(chunk.text for chunk in chunks), question])
    passages = [
        f"[{number}] {chunk.place}\n{chunk.text}" for number, chunk in enumerate(chunks, start=1)
    ]
    return "\n\n".join([_INSTRUCTION, *passages, f"Question: {question}"])


def cited(answer: str, chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[int]]:
    """Return the passages that an answer cites, each once, and the numbers that there are not."""
    numbers = list(dict.fromkeys(int(found) for found in _CITATION.findall(answer)))
    known = [chunks[number - 1] for number in numbers if 1 <= number <= len(chunks)]
    return known, [number for number in numbers if not 1 <= number <= len(chunks)]
