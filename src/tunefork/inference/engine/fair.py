"""Whose turn is next: the owner who has been served least.

Each owner has a count of the tokens computed for him (virtual token counter, Sheng et al. 2024,
arXiv 2401.00588). One who comes back after a pause begins at the least of those who wait or run, so
that a pause saves up nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class FairQueue(Generic[_T]):
    """Things that wait, in order of arrival for each owner."""

    def __init__(self, owner_of: Callable[[_T], str]) -> None:
        self._owner_of = owner_of
        self._waiting: dict[str, deque[_T]] = {}
        self._served: dict[str, float] = {}
        self._running: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))

    def count(self, owner: str) -> int:
        """Return how many of an owner wait."""
        return len(self._waiting.get(owner, ()))

    def push(self, item: _T, *, is_first: bool = False) -> None:
        """Let something wait, behind all others of its owner, or before them."""
        owner = self._owner_of(item)
        if owner not in self._served:
            self._served[owner] = min(self._served.values(), default=0.0)
        line = self._waiting.setdefault(owner, deque())
        if is_first:
            line.appendleft(item)
        else:
            line.append(item)

    def pop(self) -> _T:
        """Return what is next; it runs until `leave`."""
        owner = min(self._waiting, key=lambda each: self._served[each])
        item = self._waiting[owner].popleft()
        if not self._waiting[owner]:
            del self._waiting[owner]
        self._running[owner] = self._running.get(owner, 0) + 1
        return item

    def charge(self, owner: str, tokens: int) -> None:
        """Count tokens that were computed for an owner."""
        self._served[owner] += tokens

    def leave(self, owner: str) -> None:
        """Note that one of an owner's runs no more."""
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
            if owner not in self._waiting:
                del self._served[owner]

    def take_all(self) -> list[_T]:
        """Return everything that waits, which then waits no more."""
        found = [item for line in self._waiting.values() for item in line]
        for owner in self._waiting:
            if owner not in self._running:
                del self._served[owner]
        self._waiting.clear()
        return found
