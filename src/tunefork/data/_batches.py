"""Render many rows: the text is written here while other threads cut earlier text into tokens."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tunefork.core.errors import DataError
from tunefork.data.conversations import conversations
from tunefork.data.example import Prompt, Row, Text
from tunefork.data.render import Draft, Rendered, Renderer

_ROWS, _CHARACTERS = 256, 1 << 20  # a batch is full with either
_MOST_THREADS = 4  # the text is written by one thread, which keeps no more than these busy

_Drafted = list[tuple[Row, tuple[Draft, ...] | DataError]]


@dataclass(frozen=True)
class Batch:
    """Rows that were rendered together, in their order; entry i of both is the same row."""

    rows: list[Row]
    rendered: list[tuple[Rendered, ...]]  # each conversation that the row becomes
    faults: list[DataError]  # of rows that cannot be rendered


def render_batches(renderer: Renderer, rows: Iterable[Row]) -> Iterator[Batch]:
    """Yield all rows, in their order, each as `renderer.render` renders its conversations."""
    n_threads = min(_MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[_Waiting] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="tokens") as threads:
        for drafted in _drafted(renderer, rows):
            good = [(row, drafts) for row, drafts in drafted if isinstance(drafts, tuple)]
            encoded = threads.submit(
                renderer.encode_drafts,
                [draft for _, drafts in good for draft in drafts],
                [row.where for row, drafts in good for _ in drafts],
            )
            waiting.append(_Waiting(drafted, encoded))
            if len(waiting) > n_threads:
                yield waiting.popleft().batch()
        while waiting:
            yield waiting.popleft().batch()


@dataclass(frozen=True)
class _Waiting:
    """Rows whose text is being cut into tokens."""

    drafted: _Drafted
    encoded: Future[list[Rendered | DataError]]

    def batch(self) -> Batch:
        encoded = iter(self.encoded.result())
        batch = Batch([], [], [])
        for row, drafts in self.drafted:
            if isinstance(drafts, DataError):
                batch.faults.append(drafts)
                continue
            found = [next(encoded) for _ in drafts]
            faults = [each for each in found if isinstance(each, DataError)]
            if faults:
                batch.faults.append(faults[0])
            else:
                batch.rows.append(row)
                batch.rendered.append(tuple(each for each in found if isinstance(each, Rendered)))
        return batch


def _drafted(renderer: Renderer, rows: Iterable[Row]) -> Iterator[_Drafted]:
    """Yield batches of rows as text; where one ends follows from the rows before it alone."""
    batch: _Drafted = []
    n_characters = 0
    for row in rows:
        try:
            drafts = _drafts(renderer, row)
            n_characters += sum(len(draft.text) for draft in drafts)
            batch.append((row, drafts))
        except DataError as error:
            batch.append((row, error))
        if len(batch) >= _ROWS or n_characters >= _CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch


def _drafts(renderer: Renderer, row: Row) -> tuple[Draft, ...]:
    if isinstance(row, Text):
        return (renderer.document(row.text),)
    if isinstance(row, Prompt):
        return (renderer.opening(row.messages, row.tools, row.where),)
    return tuple(renderer.draft(each) for each in conversations(row))
