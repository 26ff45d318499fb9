"""Which adapter computes which token of the row that a model is in the middle of.

A layer is only given states, and has to know whose tokens they are: `routed` says so while a model
runs. What is computed once more in the backward pass (checkpointing) runs long after that, when
other rows may have been run in between; `routed_again` lets it see the routing of its own forward.

Rows all of whose tokens have adapter 1, as in training, have no routing.

In serving a layer needs no numbers of adapters: `serving` holds what is added for each row, and
computes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from tunefork.models.layout import Layout


class Places:
    """Where the tokens of each adapter stand among given states. Adapter 0 is the base."""

    def __init__(self, adapters: torch.Tensor) -> None:
        """Find them, given the number of each token's adapter: (tokens,)."""
        # One sort for all, and then no more waiting for the device.
        order = torch.argsort(adapters, stable=True)
        numbers, counts = torch.unique_consecutive(adapters[order], return_counts=True)
        parts = torch.split(order, counts.tolist())
        self.of = dict(zip(numbers.tolist(), parts, strict=True))  # number → (its tokens,)

    @property
    def only(self) -> int | None:
        """The adapter of all tokens, or None where they have different ones."""
        return next(iter(self.of)) if len(self.of) == 1 else None


class Routing:
    """The places of a row's tokens, and of those that reach the output head."""

    def __init__(self, adapters: torch.Tensor, keep: torch.Tensor | None = None) -> None:
        self.row = Places(adapters)
        self.head = self.row if keep is None else Places(adapters[keep])


_current: ContextVar[Routing | None] = ContextVar("_current", default=None)


def current_routing() -> Routing | None:
    """Return the routing of the row in computation, or None where all tokens have adapter 1."""
    return _current.get()


def routed(layout: Layout, keep: torch.Tensor | None = None) -> AbstractContextManager[None]:
    """Let layers know, while this is open, whose tokens they are given.

    Args:
        layout: The row that a model is about to be run over.
        keep: Places in the row that reach the output head; all where None.
    """
    return _Held(None if layout.adapters is None else Routing(layout.adapters, keep))


def routed_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what is to be open during a checkpointed forward, and when it is computed again.

    It is the `context_fn` of `torch.utils.checkpoint`, which calls it at the forward.
    """
    return contextlib.nullcontext(), _Held(current_routing())


class Served(Protocol):
    """What adapters add for the rows of one call."""

    def changed(self, site: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a place's result with what is added, for what the base made of x."""
        ...


_served: ContextVar[Served | None] = ContextVar("_served", default=None)


def current_served() -> Served | None:
    """Return what is added for the rows in computation, where they are being served."""
    return _served.get()


@contextlib.contextmanager
def serving(added: Served) -> Iterator[None]:
    """While open, layers have what they add computed by `added`, and nothing else is routed."""
    before = _served.set(added)
    try:
        yield
    finally:
        _served.reset(before)


class _Held(AbstractContextManager[None]):
    """Sets the routing while open. It can be opened again, as a backward pass can be repeated."""

    def __init__(self, routing: Routing | None) -> None:
        self._routing = routing
        self._before: list[Token[Routing | None]] = []

    def __enter__(self) -> None:
        self._before.append(_current.set(self._routing))

    def __exit__(self, *error: object) -> None:
        _current.reset(self._before.pop())
