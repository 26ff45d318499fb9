"""The jobs of another server, seen with a key of its own: `tunefork jobs … --server URL`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tunefork.core.events import Sink
from tunefork.serving.job_states import OVER, Wish
from tunefork.serving.local_jobs import no_job
from tunefork.workflow.service import Address, Service

_JOBS = "/fine_tuning/jobs"
_LOOK_EVERY_S = 1.0


class RemoteJobs:
    """Jobs of the project that the key opens."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs, the newest first."""
        return list(self._service.pages(_JOBS, limit=100))

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job.

        Raises:
            InputError: There is none.
        """
        found = self._service.find(_path(job_id))
        if found is None:
            raise no_job(job_id)
        return found

    def events(self, job_id: str, *, follows: bool) -> Iterator[dict[str, Any]]:
        """Yield what happened, the oldest first; where it follows, until the job is over.

        Raises:
            InputError: There is no such job.
        """
        last: str | None = None
        while True:
            is_over = self.job(job_id)["status"] in OVER
            new = []
            for event in self._service.pages(f"{_path(job_id)}/events", limit=100):  # newest first
                if event["id"] == last:
                    break
                new.append(event)
            yield from reversed(new)
            last = new[0]["id"] if new else last
            if not follows or (is_over and not new):
                return
            if not new:
                time.sleep(_LOOK_EVERY_S)

    def ask(self, job_id: str, wish: Wish) -> dict[str, Any]:
        """Ask something of a job, and return it as it then is.

        Raises:
            InputError: There is none, or its state does not allow it.
        """
        return self._service.post(f"{_path(job_id)}/{wish}", {}) | {"is_served": True}


@contextlib.contextmanager
def remote_jobs(address: Address, sink: Sink) -> Iterator[RemoteJobs]:
    """Give the jobs of a server."""
    with contextlib.closing(Service(address, sink)) as service:
        yield RemoteJobs(service)


def _path(job_id: str) -> str:
    return f"{_JOBS}/{quote(job_id, safe='')}"
