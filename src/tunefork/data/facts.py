"""What the checks need to know of each row, in a few bytes: its text is not kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tunefork.data.example import Example
from tunefork.data.prompts import prompt_key, text_hash
from tunefork.data.render import Renderer
from tunefork.data.tokens import TokenRows

EMPTY_ANSWER = 1  # a trained assistant turn says nothing
TRAINS_END = 2  # a token that ends a turn is trained
MOVED_SEAM = 4  # the prompt, tokenised alone as in use, is not how the row begins

FACTS = np.dtype(
    [
        ("line", "<i8"),  # where the row begins in its file; 0 where that is not known
        ("length", "<i4"),  # tokens
        ("n_trained", "<i4"),  # tokens with weight
        ("flags", "u1"),
        ("prompt", "<u8"),  # `prompt_key`; 0 where nothing is split off
    ]
)
Facts = NDArray[np.void]  # (n_rows,) of FACTS

# Comparing prompts costs a second tokenisation, so the first rows stand for all.
SEAM_SAMPLE = 400


def facts_of(
    examples: Sequence[Example],
    rows: TokenRows,
    renderer: Renderer,
    *,
    seed: int | None = None,
    first: int = 0,
) -> Facts:
    """Return the facts of rows that follow each other in a file.

    Args:
        examples: The rows as read.
        rows: The same rows as tokens.
        renderer: What rendered them.
        seed: For `prompt_key`; None where nothing will be split off.
        first: The number of the first of them in its file.
    """
    found = np.zeros(len(examples), dtype=FACTS)
    is_trained = rows.weights > 0  # (n_tokens,)
    is_end = np.isin(rows.ids, list(renderer.end_ids)) & is_trained
    found["line"] = [example.where.line or 0 for example in examples]
    found["length"] = rows.lengths
    found["n_trained"] = _per_row(is_trained, rows.offsets)
    found["flags"] = np.where(_per_row(is_end, rows.offsets) > 0, TRAINS_END, 0)
    for at, example in enumerate(examples):
        if _has_empty_answer(example):
            found["flags"][at] |= EMPTY_ANSWER
        if first + at < SEAM_SAMPLE and _is_moved(example, rows.row(at)[0], renderer):
            found["flags"][at] |= MOVED_SEAM
    if seed is not None:
        found["prompt"] = [prompt_key(example, seed) for example in examples]
    return found


def asked(examples: Iterable[Example]) -> NDArray[np.uint64]:
    """Return `text_hash` of every user turn."""
    turns = (turn for example in examples for turn in example.messages if turn.role == "user")
    return np.fromiter((text_hash(turn.content) for turn in turns), np.uint64)


def _per_row(is_marked: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the marked tokens of each row."""
    counted = np.concatenate([[0], np.cumsum(is_marked)])
    return np.diff(counted[offsets])


def _has_empty_answer(example: Example) -> bool:
    return any(
        turn.role == "assistant"
        and turn.weight > 0
        and not turn.content.strip()
        and not turn.tool_calls
        for turn in example.messages
    )


def _is_moved(example: Example, ids: NDArray[np.int32], renderer: Renderer) -> bool:
    if not example.prompt or example.messages[-1].role != "assistant":
        return False
    prompt = renderer.prompt(example.prompt, example.tools)
    return bool(ids[: len(prompt)].tolist() != prompt)
