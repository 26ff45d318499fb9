"""The memory allocator of processes that train."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SPARING = ("tcmalloc", "jemalloc", "mimalloc")  # allocators that leave few gaps


def quick_allocator(root: Path = Path("/")) -> dict[str, str]:
    """Return the environment that loads tcmalloc into a child process, where it is installed.

    Nothing where the user has chosen what to preload.

    Blocks of ever new sizes come and go in training: it is quicker at that, and wastes less.
    """
    if "LD_PRELOAD" in os.environ:
        return {}
    for folder in ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib"):
        for path in sorted(root.glob(f"{folder}/libtcmalloc_minimal.so.4")):
            return {"LD_PRELOAD": str(path)}
    return {}


def wastes_memory(root: Path = Path("/")) -> bool:
    """Say whether what trains here has to do with glibc's allocator, which leaves large gaps."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    if any(name in preloaded for name in _SPARING):
        return False
    return sys.platform.startswith("linux") and not quick_allocator(root)
