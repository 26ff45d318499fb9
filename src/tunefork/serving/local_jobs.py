"""The jobs of this machine, for its own commands: with a server running, or with none.

While a server runs, what is asked of a job is noted for it, and it acts. Without one it is done
here, as far as no worker has to be started: workers outlive a server, and can be stopped without.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import select

from tunefork.core.errors import InputError
from tunefork.serving.job_answer import described, estimated_finish
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.job_states import ENDED, GOALS, MAY, OVER, Wish, refusal
from tunefork.serving.keeper import Keeper, Workers
from tunefork.serving.key_tables import OrganisationRow, ProjectRow
from tunefork.serving.store import Store, shared_store, store_folder
from tunefork.serving.tables import JobRow

_LOOK_EVERY_S = 0.2
_PATIENCE_S = 30.0  # for a worker to come to the end of a step
_LAST_WORDS = 20  # lines of what a worker printed
_UNTOLD = ("internal_error", "worker_killed")  # where the worker's own output tells more


class LocalJobs:
    """Jobs of every project."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keeper = Keeper(store, Workers((), ()))  # it starts nothing

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs as the API shows them, the newest first."""
        with self._store.reading() as session:
            rows = list(session.scalars(select(JobRow).order_by(JobRow.number.desc())))
        return [self._described(row) for row in rows]

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as the API shows it, with where its files lie and what its worker said.

        Raises:
            InputError: There is none.
        """
        row = self._row(job_id)
        folder = self._folder(row)
        found = self._described(row) | {"base": row.base, "folder": str(folder.path)}
        if row.pid is not None:
            found["worker"] = row.pid
        if row.error is not None and row.error["code"] in _UNTOLD:
            found["last_words"] = _last_words(folder)
        return found

    def events(self, job_id: str, *, follows: bool) -> Iterator[dict[str, Any]]:
        """Yield what happened, the oldest first; where it follows, until the job is over.

        Raises:
            InputError: There is no such job.
        """
        place = 0
        while True:
            row = self._row(job_id)
            is_new = False
            for event, place in self._folder(row).events_from(place):  # noqa: B007, B020
                is_new = True
                yield event
            if not follows or (row.state in OVER and not is_new):
                return
            if not is_new:
                time.sleep(_LOOK_EVERY_S)

    def printed(self, job_id: str) -> str:
        """Return what a job's worker printed.

        Raises:
            InputError: There is no such job.
        """
        return _printed(self._folder(self._row(job_id)))

    def ask(self, job_id: str, wish: Wish) -> dict[str, Any]:
        """Ask something of a job, and return it as it then is; a worker may need a while.

        Raises:
            InputError: There is none, or its state does not allow it.
        """
        row = self._row(job_id)
        if row.state not in MAY[wish] or not self._keeper.ask(row.id, wish):
            raise InputError(
                refusal(self._row(job_id).state, wish).rstrip("."),
                hint=f"`tunefork jobs show {job_id}` tells how it does",
            )
        goal, end = GOALS.get(wish), time.monotonic() + _PATIENCE_S
        with self._alone() as is_alone:
            while goal is not None and time.monotonic() < end:
                if is_alone:
                    self._keeper.attend(job_id)
                if self._row(job_id).state in (goal, *ENDED):
                    break
                time.sleep(_LOOK_EVERY_S)
        return self.job(job_id) | {"is_served": not is_alone}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keep servers away for a moment; give whether none was there."""
        lock = FileLock(self._store.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _row(self, job_id: str) -> JobRow:
        with self._store.reading() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == job_id)).first()
        if row is None:
            raise no_job(job_id)
        return row

    def _folder(self, row: JobRow) -> JobFolder:
        return JobFolder(self._store.jobs / row.id)

    def _described(self, row: JobRow) -> dict[str, Any]:
        query = (
            select(ProjectRow.name, OrganisationRow.id)
            .join(OrganisationRow, OrganisationRow.id == ProjectRow.organisation_id)
            .where(ProjectRow.id == row.owner)
        )
        with self._store.reading() as session:
            project, organisation = session.execute(query).one()
        finish = estimated_finish(self._folder(row)) if row.state == "running" else None
        return described(row, organisation, finish) | {"project": project}


@contextlib.contextmanager
def local_jobs() -> Iterator[LocalJobs]:
    """Give the jobs of this home."""
    with shared_store(store_folder()) as store:
        yield LocalJobs(store)


def no_job(job_id: str) -> InputError:
    """Return what is wrong where there is no such job."""
    return InputError(f"there is no job `{job_id}`", hint="`tunefork jobs list` names them")


def _last_words(folder: JobFolder) -> list[str]:
    return _printed(folder).splitlines()[-_LAST_WORDS:]


def _printed(folder: JobFolder) -> str:
    return folder.log.read_text(encoding="utf-8", errors="replace") if folder.log.is_file() else ""
