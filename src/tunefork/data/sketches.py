"""What is kept of each row to tell which rows are nearly the same, without their texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunefork.data.conversations import conversations
from tunefork.data.example import Labelled, Prompt, Row, Text
from tunefork.data.shingles import HASHES, Signatures, shingles, signatures

PROMPT, ANSWER, WHOLE = range(3)
SKETCH_SHAPE = (3, HASHES)
Sketches = NDArray[np.uint8]  # (n_rows, *SKETCH_SHAPE): of prompt, answer and both together
MOST_SKETCHED = 200_000  # rows of a file, from the first: 58 MB
_RULES = ("system", "developer")


def sketches_of(rows: Sequence[Row], first: int = 0) -> Sketches:
    """Return the sketches of rows that follow each other in a file.

    Of each number of a MinHash signature 8 bits are kept (Li and König 2010,
    https://arxiv.org/abs/0910.3349): two sets of similarity J agree in J + (1 - J) / 256 of them.

    Args:
        rows: The rows as read.
        first: The number of the first of them in its file; from `MOST_SKETCHED` on there is none.
    """
    texts = [_texts(row) for row in rows[: max(0, MOST_SKETCHED - first)]]
    if not texts:
        return np.empty((0, *SKETCH_SHAPE), np.uint8)
    prompts = signatures([shingles(prompt) for prompt, _ in texts])
    answers = signatures([shingles(answer) for _, answer in texts])
    # The least hash of a union is the lesser of both.
    wholes = np.minimum(prompts, answers)
    return np.stack([_bytes(each) for each in (prompts, answers, wholes)], axis=1)


def _bytes(found: Signatures) -> NDArray[np.uint8]:
    # Multiplied, since the least of many hashes has few high bits, and the low ones are no mixture.
    return (found * np.uint32(0x9E3779B1) >> np.uint32(24)).astype(np.uint8)


def _texts(row: Row) -> tuple[str, str]:
    """Return what is asked and what is answered; of two answers the better one."""
    if isinstance(row, Text):
        return row.text, row.text
    if isinstance(row, Labelled):
        return row.text, row.label
    if isinstance(row, Prompt):
        asked = (turn.content for turn in row.messages if turn.role not in _RULES)
        return "\n".join(asked), ""
    found = conversations(row)[0]
    asked = (turn.content for turn in found.prompt if turn.role not in _RULES)
    return "\n".join(asked), found.answer
