"""What the checks need to know of each row, in a few bytes: its text is not kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tunefork.data.conversations import SHAPES, conversations
from tunefork.data.example import Example, Judged, Kind, Labelled, Message, Prompt, Row, Text
from tunefork.data.items import Column
from tunefork.data.prompts import prompt_key, text_hash
from tunefork.data.render import Renderer
from tunefork.data.tokens import TokenRows

EMPTY_ANSWER = 1  # a trained assistant turn, or a text, says nothing
TRAINS_END = 2  # a token that ends a turn is trained, in each of its conversations
MOVED_SEAM = 4  # the prompt, tokenised alone as in use, is not how the row begins
SAME_ANSWERS = 8  # the answers that it compares are the same tokens
IS_GOOD = 16  # the answer was judged good

FACTS = np.dtype(
    [
        ("line", "<i8"),  # where the row begins in its file; 0 where that is not known
        ("length", "<i4"),  # tokens of the longest of its conversations
        ("n_trained", "<i4"),  # tokens with weight, of all of them; 0 where one of them has none
        ("flags", "u1"),
        ("prompt", "<u8"),  # `prompt_key`; 0 where nothing is split off
        ("n_asked", "<i4"),  # user turns, see `asked`
    ]
)
Facts = NDArray[np.void]  # (n_items,) of FACTS: one for each row of the file

# Comparing prompts costs a second tokenisation, so the first rows stand for all.
SEAM_SAMPLE = 400


def facts_of(
    read: Sequence[Row],
    rows: TokenRows,
    renderer: Renderer,
    *,
    seed: int | None = None,
    first: int = 0,
) -> Facts:
    """Return the facts of rows that follow each other in a file.

    Args:
        read: The rows as read, all of one kind.
        rows: The conversations that they become, as tokens.
        renderer: What rendered them.
        seed: For `prompt_key`; None where nothing will be split off.
        first: The number of the first of them in its file.
    """
    found = np.zeros(len(read), dtype=FACTS)
    is_trained = rows.weights > 0  # (n_tokens,)
    is_end = np.isin(rows.ids, list(renderer.end_ids)) & is_trained
    per_item = (len(read), -1)  # the conversations of a row stand side by side
    found["line"] = [row.where.line or 0 for row in read]
    if len(read):
        found["length"] = rows.lengths.reshape(per_item).max(axis=1)
        n_trained = _per_row(is_trained, rows.offsets).reshape(per_item)
        found["n_trained"] = np.where(n_trained.min(axis=1) > 0, n_trained.sum(axis=1), 0)
        ends = _per_row(is_end, rows.offsets).reshape(per_item).min(axis=1)
        found["flags"] = np.where(ends > 0, TRAINS_END, 0)
    for at, row in enumerate(read):
        found["flags"][at] |= _flags(row, at, rows, renderer, is_sampled=first + at < SEAM_SAMPLE)
    if seed is not None:
        found["prompt"] = [prompt_key(row, seed) for row in read]
    found["n_asked"] = [len(_asked(row)) for row in read]
    return found


def columns_of(facts: Facts, kind: Kind) -> dict[str, Column]:
    """Return what an objective knows of each row of tokens besides its tokens."""
    if kind != "judged":
        return {}
    is_good = (facts["flags"] & IS_GOOD) > 0
    return {"is_good": np.repeat(is_good, SHAPES[kind].n_rows).astype(np.float32)}


def asked(read: Iterable[Row]) -> NDArray[np.uint64]:
    """Return `text_hash` of every user turn."""
    turns = (turn for row in read for turn in _asked(row))
    return np.fromiter((text_hash(turn.content) for turn in turns), np.uint64)


def _asked(row: Row) -> list[Message]:
    if isinstance(row, Text):
        return []
    # The other conversations of a row ask the same.
    messages = row.messages if isinstance(row, Prompt) else conversations(row)[0].messages
    return [turn for turn in messages if turn.role == "user"]


def _per_row(is_marked: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the marked tokens of each row."""
    counted = np.concatenate([[0], np.cumsum(is_marked)])
    return np.diff(counted[offsets])


def _flags(row: Row, at: int, rows: TokenRows, renderer: Renderer, *, is_sampled: bool) -> int:
    """Return the flags of entry `at` that take more than counting tokens."""
    if isinstance(row, Text):
        return 0 if row.text.strip() else EMPTY_ANSWER
    if isinstance(row, Prompt):
        return 0
    examples = conversations(row)
    ids = [rows.row(len(examples) * at + each)[0] for each in range(len(examples))]
    found = IS_GOOD if isinstance(row, Judged) and row.is_good else 0
    may_be_empty = isinstance(row, Labelled) and row.listed is not None  # it has no label
    if any(map(_has_empty_answer, examples)) and not may_be_empty:
        found |= EMPTY_ANSWER
    if any(np.array_equal(ids[0], other) for other in ids[1:]):
        found |= SAME_ANSWERS
    if is_sampled and _is_moved(examples[0], ids[0], renderer):
        found |= MOVED_SEAM
    return found


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
