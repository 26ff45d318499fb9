"""Which did you write? The owner's own answers beside a model's, to be told apart blind.

Where the owner finds the own answer no more often than by chance, the model has the voice. Choices
are made with `label`, which hides who wrote what; this writes the pairs for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tunefork.core.errors import DataError
from tunefork.core.events import Progress, Sink
from tunefork.core.files import write_text
from tunefork.data import Example, load_examples
from tunefork.workflow.label import OWNER
from tunefork.workflow.opened import open_model


def write_blind(
    rows: Path,
    model: str,
    out: Path,
    *,
    most: int = 30,
    mapping: Mapping[str, str] | None = None,
    sink: Sink,
) -> int:
    """Let a model answer what the owner answered, and write both as pairs for `label --answers`.

    Args:
        rows: The owner's conversations; best ones that the model did not learn from.
        model: By any name that `open_model` takes.
        out: The file of pairs.
        most: How many rows to take at most, spread evenly over the file.
        mapping: Which of the file's columns is what.
        sink: Told how far it is.

    Returns:
        How many pairs there are.

    Raises:
        InputError: The rows or the model cannot be used.
    """
    read = [row for row in load_examples(rows, mapping) if _can_be_asked(row)]
    if not read:
        hint = "give rows that end with an answer of yours"
        raise DataError("no row has a question and a text as its answer", where=rows, hint=hint)
    places = np.unique(np.linspace(0, len(read) - 1, min(most, len(read))).astype(int))
    asked = [read[at] for at in places]
    opened = open_model(model)
    answers = opened.chat.answer(
        [row.prompt for row in asked],
        opened.decoding,
        on_answer=lambda done: sink(Progress(f"{model}: answers", done, len(asked))),
    )
    lines = [
        {
            "messages": [{"role": turn.role, "content": turn.content} for turn in row.prompt],
            "answers": [
                {"model": OWNER, "text": row.answer},
                {"model": model, "text": answer.text},
            ],
        }
        for row, answer in zip(asked, answers, strict=True)
        if answer.text.strip()
    ]
    if not lines:
        raise DataError(
            f"`{model}` answers nothing to any of the rows",
            where=rows,
            hint="look at what it says with `tunefork chat`",
        )
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines)


def _can_be_asked(row: Example) -> bool:
    turns = row.prompt
    return (
        bool(turns)
        and turns[-1].role == "user"
        and bool(row.answer.strip())
        and not row.tools
        and not any(turn.tool_calls for turn in row.messages)
    )
