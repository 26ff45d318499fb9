"""Write tensors, so that a refusal by the operating system is an `OSError` like any other."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from safetensors import SafetensorError


@contextlib.contextmanager
def saving_tensors() -> Iterator[None]:
    """Raise as `OSError` what safetensors reports in a class of its own while it writes."""
    try:
        yield
    except SafetensorError as error:
        is_full = "No space left" in str(error) or "StorageFull" in str(error)
        raise OSError(errno.ENOSPC if is_full else errno.EIO, str(error)) from error
