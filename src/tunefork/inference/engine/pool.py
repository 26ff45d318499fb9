"""Adapters by key: known on disk, and in memory as far as there is room.

`register` and `forget` may be called from any thread, at any time. What is put on the model and
taken off it is the engine's doing, between two steps.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import InputError, ModelError
from tunefork.core.hashing import hash_file, hash_json
from tunefork.strategies import Resident, Residents
from tunefork.strategies.folder import CONFIG_FILE, WEIGHTS_FILE, read_config


@dataclass(eq=False)
class Entry:
    """One adapter. Rows that use it hold it, so a key may meanwhile come to mean another."""

    key: str
    folder: Path
    digest: str  # of its files when it was registered
    n_prefix: int  # places that its learned prefix takes
    resident: Resident | None = None  # while it is in memory
    users: int = 0
    is_forgotten: bool = False


class AdapterPool:
    """The adapters that one engine can answer with."""

    def __init__(self, model: Any, *, budget_bytes: int = 1 << 30) -> None:
        """Begin with none.

        Args:
            model: What `load_model` returned; nothing else may change it.
            budget_bytes: What the tensors of all resident adapters may take together.
        """
        self.model = model
        self.budget_bytes = budget_bytes
        self.residents = Residents(model)
        self._lock = threading.Lock()
        self._known: dict[str, Entry] = {}
        self._resident: OrderedDict[Entry, None] = OrderedDict()  # the least recently used first
        self.n_loads = self.n_evictions = 0  # written by the engine's thread

    def register(self, key: str, folder: Path) -> None:
        """Make an adapter known, or let a key mean another one from now on; nothing is loaded.

        Raises:
            ModelError: The folder holds no adapter.
        """
        config = read_config(folder)
        n_prefix = config.get("num_virtual_tokens", 0)
        entry = Entry(key, folder, _digest(folder), n_prefix if isinstance(n_prefix, int) else 0)
        with self._lock:
            before = self._known.get(key)
            if before is not None:
                before.is_forgotten = True
            self._known[key] = entry

    def forget(self, key: str) -> None:
        """Answer no new request with an adapter; it leaves the model once nobody uses it."""
        with self._lock:
            entry = self._known.pop(key, None)
            if entry is not None:
                entry.is_forgotten = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The adapters that can be asked for."""
        with self._lock:
            return tuple(self._known)

    @property
    def resident(self) -> tuple[str, ...]:
        """Those in memory, the least recently used first."""
        with self._lock:
            return tuple(entry.key for entry in self._resident)

    @property
    def resident_bytes(self) -> int:
        """What their tensors take."""
        with self._lock:
            return sum(map(_size, self._resident))

    def find(self, key: str) -> Entry:
        """Return an adapter that is known.

        Raises:
            InputError: There is none of this key.
        """
        with self._lock:
            if key not in self._known:
                raise InputError(f"there is no adapter `{key}`", hint="register it first")
            return self._known[key]

    def acquire(self, entry: Entry) -> bool:
        """Have an adapter in memory for one more user; for the engine's thread.

        Returns:
            Whether it is; not so where others in use leave no room for it now.

        Raises:
            ModelError: It is damaged, changed since it was registered, or has no effect.
        """
        if entry.resident is None:
            size = (entry.folder / WEIGHTS_FILE).stat().st_size if _is_there(entry) else 0
            if not self._make_room(size):
                return False
            self._load(entry)
        with self._lock:
            entry.users += 1
            self._resident.move_to_end(entry)
        return True

    def release(self, entry: Entry) -> None:
        """Note that one user is done; for the engine's thread."""
        with self._lock:
            entry.users -= 1

    def sweep(self) -> None:
        """Take off what is forgotten and no more used; for the engine's thread."""
        with self._lock:
            gone = [each for each in self._resident if each.is_forgotten and not each.users]
        for entry in gone:
            self._unload(entry)

    def _make_room(self, size: int) -> bool:
        self.sweep()
        if size > self.budget_bytes:
            raise ModelError(
                f"the adapter takes {size:,} bytes of the {self.budget_bytes:,} set aside for all",
                hint="raise the memory for adapters",
            )
        with self._lock:
            idle = [each for each in self._resident if not each.users]
            used = sum(map(_size, self._resident))
        for entry in idle:
            if used + size <= self.budget_bytes:
                break
            used -= _size(entry)
            self._unload(entry)
        return used + size <= self.budget_bytes

    def _load(self, entry: Entry) -> None:
        if _digest(entry.folder) != entry.digest:
            raise ModelError(
                "the adapter's files are not those that were registered",
                where=entry.folder,
                hint="bring them back as they were, or register the adapter again",
            )
        resident = self.residents.add(entry.folder)
        with self._lock:
            entry.resident = resident
            self._resident[entry] = None
        self.n_loads += 1

    def _unload(self, entry: Entry) -> None:
        assert entry.resident is not None, "only what is resident is taken off"
        self.residents.remove(entry.resident)
        with self._lock:
            entry.resident = None
            del self._resident[entry]
        self.n_evictions += 1


def _size(entry: Entry) -> int:
    return 0 if entry.resident is None else entry.resident.size_bytes


def _is_there(entry: Entry) -> bool:
    return (entry.folder / WEIGHTS_FILE).is_file()


def _digest(folder: Path) -> str:
    return hash_json([hash_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)])
