"""Do not keep for the backward pass what is cheap to compute again from what is kept anyway."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch

_is_off: ContextVar[bool] = ContextVar("_is_off", default=False)


@contextlib.contextmanager
def kept_as_usual() -> Iterator[None]:
    """While open, `computed_again` has no effect."""
    before = _is_off.set(True)
    try:
        yield
    finally:
        _is_off.reset(before)


@contextlib.contextmanager
def computed_again(result: torch.Tensor, compute: Callable[[], torch.Tensor]) -> Iterator[None]:
    """While open, who wants to keep `result` for the backward pass keeps how to compute it.

    A normed state or an activation takes as much room as what it was made from, and a tenth of
    the time of the product that it enters.

    Args:
        result: What the layers inside are given.
        compute: Returns the same again, to the same bits, from tensors that are kept elsewhere.
    """
    if not torch.is_grad_enabled() or _is_off.get():
        yield
        return
    again = _Again(result, compute)
    with torch.autograd.graph.saved_tensors_hooks(again.pack, again.unpack):
        yield


class _Again:
    """Stands for every saved view of one tensor, and computes it once for all that ask in turn."""

    def __init__(self, result: torch.Tensor, compute: Callable[[], torch.Tensor]) -> None:
        self._address, self._size = result.data_ptr(), result.numel()
        self._compute = compute
        self._keepers = 0
        self._found: torch.Tensor | None = None

    def pack(self, tensor: torch.Tensor) -> torch.Tensor | torch.Size:
        if tensor.data_ptr() != self._address or tensor.numel() != self._size:
            return tensor
        self._keepers += 1
        return tensor.shape

    def unpack(self, kept: torch.Tensor | torch.Size) -> torch.Tensor:
        if isinstance(kept, torch.Tensor):
            return kept
        if self._found is None:
            with torch.no_grad():
                self._found = self._compute()
        found = self._found.view(kept)
        self._keepers -= 1
        if self._keepers == 0:
            self._found = None
        return found
