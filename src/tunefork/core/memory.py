"""How much memory this process holds, on any system."""

from __future__ import annotations

import contextlib
import sys

import psutil

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>
_MOST_KEPT = (1 << 31) - 1  # bytes


def resident_bytes() -> int:
    """Return the memory that is resident now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the most that was ever resident."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes() -> int:
    """Return the memory that programs can still take without pushing others out."""
    return int(psutil.virtual_memory().available)


def keep_freed_memory() -> None:
    """Tell the C library to keep freed memory for the next large block, where it is glibc's.

    Training frees and asks for the same blocks in each step. By default glibc hands each back to
    the system, which has to fill it with zeros again: a tenth to a fifth of the time.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
