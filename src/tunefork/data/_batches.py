"""Render many rows: the text is written here while other threads cut earlier text into tokens."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tunefork.core.errors import DataError
from tunefork.data.example import Example
from tunefork.data.render import Draft, Rendered, Renderer

_ROWS, _CHARACTERS = 256, 1 << 20  # a batch is full with either
_MOST_THREADS = 4  # the text is written by one thread, which keeps no more than these busy


@dataclass(frozen=True)
class Batch:
    """Rows that were rendered together, in their order; row i of both is the same one."""

    examples: list[Example]
    rendered: list[Rendered]
    faults: list[DataError]  # of rows that cannot be rendered


def render_batches(renderer: Renderer, examples: Iterable[Example]) -> Iterator[Batch]:
    """Yield all rows, in their order, each as `renderer.render` renders it."""
    n_threads = min(_MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[_Waiting] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="tokens") as threads:
        for drafted in _drafted(renderer, examples):
            good = [(example, draft) for example, draft in drafted if isinstance(draft, Draft)]
            encoded = threads.submit(
                renderer.encode_drafts,
                [draft for _, draft in good],
                [example.where for example, _ in good],
            )
            waiting.append(_Waiting(drafted, encoded))
            if len(waiting) > n_threads:
                yield waiting.popleft().batch()
        while waiting:
            yield waiting.popleft().batch()


@dataclass(frozen=True)
class _Waiting:
    """Rows whose text is being cut into tokens."""

    drafted: list[tuple[Example, Draft | DataError]]
    encoded: Future[list[Rendered | DataError]]

    def batch(self) -> Batch:
        encoded = iter(self.encoded.result())
        batch = Batch([], [], [])
        for example, draft in self.drafted:
            found = draft if isinstance(draft, DataError) else next(encoded)
            if isinstance(found, DataError):
                batch.faults.append(found)
            else:
                batch.examples.append(example)
                batch.rendered.append(found)
        return batch


def _drafted(
    renderer: Renderer, examples: Iterable[Example]
) -> Iterator[list[tuple[Example, Draft | DataError]]]:
    """Yield batches of rows as text; where one ends follows from the rows before it alone."""
    batch: list[tuple[Example, Draft | DataError]] = []
    n_characters = 0
    for example in examples:
        try:
            draft = renderer.draft(example)
            n_characters += len(draft.text)
            batch.append((example, draft))
        except DataError as error:
            batch.append((example, error))
        if len(batch) >= _ROWS or n_characters >= _CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch
