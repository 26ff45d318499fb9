"""How much memory this process holds, on any system."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

# Of kernels that are compiled for one size of a product, in oneDNN and in PyTorch beside it.
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KERNELS_KEPT = 128  # more than one packed row needs
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>
_MOST_KEPT = (1 << 31) - 1  # bytes


def resident_bytes() -> int:
    """Return the memory that is resident now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """Return the most that was ever resident."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform.startswith("linux"):  # where `getrusage` counts what started this process too
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kilobytes
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


def keep_few_kernels() -> None:
    """Tell what multiplies bf16 on a processor to keep few of the kernels that it compiles.

    It compiles one for each size of a product, and every packed row is of another length: by
    default a thousand and more are kept, none of which is used again. Does nothing where a kernel
    was compiled before, or where the environment says something else.
    """
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, str(_KERNELS_KEPT))
