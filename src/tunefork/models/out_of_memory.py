"""How it is known that memory ran out, and what is let go then."""

from __future__ import annotations

import gc
import traceback

import torch

# What allocators say that have no exception class of their own.
_SAYINGS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cublas_status_alloc_failed",
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or on the processor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        saying in str(error).lower() for saying in _SAYINGS
    )


def let_go(error: BaseException) -> None:
    """Drop the activations, which the frames of a traceback hold."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
