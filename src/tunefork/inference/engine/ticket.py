"""A request's answer as it comes: written by the engine's thread, read from any other."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator

from tunefork.core.errors import TuneforkError
from tunefork.inference.engine.request import Piece, Usage

_Item = Piece | TuneforkError


class Ticket:
    """What `Engine.submit` returns. It is read once, by one reader."""

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Item] = deque()  # read on an event loop
        self._is_there: asyncio.Event | None = None
        self._is_cancelled = False

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces as they come; wait in between.

        Raises:
            TuneforkError: The answer failed.
        """
        is_over = False
        while not is_over:
            item = self._items.get()
            is_over = _is_last(item)
            yield _piece(item)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield pieces as they come, on an event loop.

        Raises:
            TuneforkError: The answer failed.
        """
        with self._lock:
            self._loop, self._is_there = asyncio.get_running_loop(), asyncio.Event()
            while not self._items.empty():
                self._waiting.append(self._items.get_nowait())
        is_over = False
        while not is_over:
            while not self._waiting:
                self._is_there.clear()
                await self._is_there.wait()
            item = self._waiting.popleft()
            is_over = _is_last(item)
            yield _piece(item)

    def cancel(self) -> None:
        """Want no more of it: the row leaves the batch before the next step."""
        self._is_cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants more of it."""
        return self._is_cancelled

    def put(self, item: Piece | TuneforkError) -> None:
        """Hand over what came next; for the engine."""
        with self._lock:
            loop = self._loop
            if loop is None:
                self._items.put(item)
                return
        try:
            loop.call_soon_threadsafe(self._arrive, item)
        except RuntimeError:  # the loop was closed: nobody reads any more
            self.cancel()

    def _arrive(self, item: _Item) -> None:
        assert self._is_there is not None, "read on a loop"
        self._waiting.append(item)
        self._is_there.set()


def _is_last(item: _Item) -> bool:
    return isinstance(item, TuneforkError) or item.ended is not None


def _piece(item: _Item) -> Piece:
    if isinstance(item, TuneforkError):
        raise item
    return item
