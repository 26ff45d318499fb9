"""Whether requests can be answered now: bases, engines, database, disk, the queue of jobs."""

from __future__ import annotations

import shutil
import threading
import time

from sqlalchemy import select

from tunefork.core.errors import RunError
from tunefork.serving.context import Context
from tunefork.serving.tables import SchemaRow

LEAST_FREE_BYTES = 256 * 10**6  # below it neither an upload nor a checkpoint is sure to fit
_FRESH_S = 1.0  # anybody may ask, and the database is written to for it


class Readiness:
    """Looks, at most once a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._found: dict[str, bool] = {}
        self._at_s = -_FRESH_S

    def checks(self) -> dict[str, bool]:
        """Return what is well, by name."""
        with self._lock:
            if time.monotonic() - self._at_s >= _FRESH_S:
                self._found = self._look()
                self._at_s = time.monotonic()
            return {**self._found, "open": not self._context.ending.is_set()}

    def _look(self) -> dict[str, bool]:
        hosts = self._context.catalogue.backend.loaded()
        return {
            "bases": bool(hosts),
            "engines": all(host.decoder.stats().is_alive for host in hosts),
            "database": self._can_write(),
            "disk": free_bytes(self._context) >= LEAST_FREE_BYTES,
            "jobs": self._context.keeper.is_running,
        }

    def _can_write(self) -> bool:
        try:
            with self._context.store.writing() as session:
                session.execute(select(SchemaRow.version))  # with the lock for writing
        except RunError:
            return False
        return True


def free_bytes(context: Context) -> int:
    """Return how much room the disk of the home folder has."""
    return shutil.disk_usage(context.store.folder).free
