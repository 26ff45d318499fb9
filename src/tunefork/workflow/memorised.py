"""Ask a tuned model for a sample of its training rows: what comes back word for word?"""

from __future__ import annotations

import numpy as np

from tunefork.core.events import Progress, Sink
from tunefork.data import Items
from tunefork.evaluation import Memorised, find_memorised
from tunefork.inference import ChatModel, Decoding, generate
from tunefork.workflow.prepare import Prepared

_ROWS = 50
_LONGEST = 96  # tokens of an answer: what is the same so far was learned by heart


def memorised(chat: ChatModel, prepared: Prepared, sink: Sink) -> Memorised | None:
    """Return how much of its rows a model knows by heart; None where they hold no answers.

    A row's first trained tokens are its answer. It is asked greedily, with nothing before it but
    what stood before it in training.
    """
    if prepared.kind != "chat":
        return None
    rows = Items.of(prepared.data.rows).rows
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).astype(np.int64))
    asked = [_cut(*rows.row(int(at))) for at in chosen]
    asked = [(prompt, answer) for prompt, answer in asked if prompt and answer]
    if not asked:
        return None
    found = generate(
        chat.model,
        [prompt for prompt, _ in asked],
        chat.renderer.end_ids,
        Decoding(max_new_tokens=_LONGEST),
        max_length=chat.max_length,
        on_answer=lambda done: sink(Progress("tuned: training rows by heart", done, len(asked))),
    )
    parse = chat.renderer.parse
    return find_memorised(
        [
            # As many tokens of each: an answer that was cut off is compared as far as it goes.
            (parse(given.ids)[0], parse(answer[: max(len(given.ids), 1)])[0])
            if given.ended == "length"
            else (parse(given.ids)[0], parse(answer)[0])
            for given, (_, answer) in zip(found, asked, strict=True)
        ]
    )


def _cut(ids: np.ndarray, weights: np.ndarray) -> tuple[list[int], list[int]]:
    """Return a row's tokens before its first answer, and that answer's."""
    trained = np.flatnonzero(weights > 0)
    if not len(trained):
        return [], []
    begin = int(trained[0])
    gaps = np.flatnonzero(weights[begin:] == 0)
    end = begin + int(gaps[0]) if len(gaps) else len(ids)
    return ids[:begin].tolist(), ids[begin:end].tolist()
