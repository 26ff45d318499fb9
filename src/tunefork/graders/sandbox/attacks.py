"""What a hostile grader would try. Run only inside the sandbox, by `verify`.

`grade` returns 1 where the attack in `item["attack"]` was stopped, and 0 where it went through.
Each is harmless where it does go through: one connection to a port of ours, one file of a few
bytes in a temporary folder of ours, one child that ends at once, the signal 0.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_NEW_USER_NAMESPACE = 0x1000_0000
_HARMLESS_NAMES = {"LC_CTYPE"}  # Python sets it itself
_OURS = {
    *("HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PWD"),
}

Item = dict[str, Any]


def grade(sample: object, item: Item) -> float:
    """Try one attack."""
    return float(_ATTACKS[item["attack"]](item))


def _network(item: Item) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", item["port"]), timeout=0.2):
            return False
    except OSError:
        return True


def _files(item: Item) -> bool:
    return not any(map(_can_read, item["files"]))


def _can_read(path: str) -> bool:
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path)) and not _is_way_to_python(path)
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def _is_way_to_python(path: str) -> bool:
    """Say whether a folder shows nothing but the way to Python's own files."""
    inside = [os.path.join(path, name) for name in os.listdir(path)]
    needed = (os.__file__, *sys.path)
    return all(any(place.startswith(part) for place in needed) for part in inside)


def _write(item: Item) -> bool:
    try:
        with open(os.path.join(item["folder"], "attack"), "w", encoding="ascii") as file:
            file.write("x")
    except OSError:
        shown = ("/", "/tmp", os.path.dirname(os.__file__))  # may hold files not ours: ask only
        return not any(os.access(folder, os.W_OK) for folder in shown)
    return False


def _processes(item: Item) -> bool:
    try:
        child = os.fork()
    except OSError:
        return True
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return False


def _signals(item: Item) -> bool:
    for process in {item["process"], os.getppid()} - {0}:
        try:
            os.kill(process, 0)
        except OSError:
            continue
        return False
    return True


def _environment(item: Item) -> bool:
    return set(os.environ) <= _OURS | _HARMLESS_NAMES


def _memory(item: Item) -> bool:
    try:
        bytearray(item["memory_bytes"])
    except MemoryError:
        return True
    return False


def _rights(item: Item) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_NEW_USER_NAMESPACE) != 0)


def _time(item: Item) -> bool:
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    while True:
        pass


_ATTACKS: dict[str, Callable[[Item], bool]] = {
    "environment": _environment,
    "files": _files,
    "memory": _memory,
    "network": _network,
    "processes": _processes,
    "rights": _rights,
    "signals": _signals,
    "time": _time,
    "write": _write,
}
