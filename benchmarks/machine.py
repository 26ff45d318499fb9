"""What the results were measured on, and which allocators it has."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

_ALLOCATORS = {
    "tcmalloc": ("libtcmalloc.so.4", "libtcmalloc_minimal.so.4"),
    "jemalloc": ("libjemalloc.so.2",),
}
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "bf16", "sve")


def allocators() -> dict[str, Path]:
    """Return the allocators other than the C library's own, by name: what to preload."""
    found = {}
    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders = (*_LIBRARIES, *filter(None, named))
    for name, files in _ALLOCATORS.items():
        paths = [Path(folder) / file for file in files for folder in folders]
        existing = [path for path in paths if path.is_file()]
        if existing:
            found[name] = existing[0]
    return found


def describe() -> dict[str, Any]:
    """Return processor, cores, memory and system."""
    info = _cpu_info()
    flags = info.get("flags", info.get("Features", "")).split()
    return {
        "processor": info.get("model name", platform.processor()),
        "family_model": "/".join(info.get(key, "?") for key in ("cpu family", "model")),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def _cpu_info() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
