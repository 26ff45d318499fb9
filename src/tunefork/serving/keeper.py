"""The queue of jobs: starts workers, follows them, writes down how they ended.

A worker is a process of its own, in a session of its own; what it has to say lies in the job's
folder. So it outlives the server, and a server that comes back goes on following it by its number
and the moment it began. A worker that ended without a word is started again, from its last
checkpoint, as the rules of `_died` say. One thread does all of this, and alone changes states.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy import select

from tunefork.core.errors import TuneforkError
from tunefork.core.files import CACHE, write_text, writing
from tunefork.serving.callers import LOCAL
from tunefork.serving.errors import log
from tunefork.serving.ids import new_id, now
from tunefork.serving.job_answer import results_csv
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.job_states import MAY, Wish
from tunefork.serving.store import Store
from tunefork.serving.tables import RESULTS, FileRow, JobRow

_LOOK_EVERY_S = 0.2
_MOST_DEATHS = 2  # then it fails
_VALIDATORS = 1
_SAME_START_S = 0.5  # how exactly a process's start is known


@dataclass(frozen=True)
class Workers:
    """How to start a worker.

    Attributes:
        command: The program; the job's folder and options come behind it.
        devices: What each of those that run at once is given: a GPU's number, or another name.
        environment: What a worker finds in its environment, besides the server's own.
    """

    command: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    environment: Mapping[str, str] = field(default_factory=dict)


class Keeper:
    """Keeps jobs going."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store = store
        self._workers = workers
        self._children: set[int] = set()  # those of this server; others are known by number
        self._wakes = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin, with what was left by the server before."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; workers go on."""
        self._is_closing = True
        self._wakes.set()
        self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether jobs are looked after."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Look at once."""
        self._wakes.set()

    def ask(self, job_id: str, wish: Wish) -> bool:
        """Note what is asked of a job; say whether its state allows it."""
        with self._store.writing() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == job_id)).one()
            if row.state not in MAY[wish]:
                return False
            if wish == "resume":
                row.state, row.wish = "queued", None
            else:
                row.wish = wish
        if wish == "resume":
            self._folder(row).add_event("Job resumed, moving it to queued state")
        self.wake()
        return True

    def attend(self, job_id: str) -> None:
        """Do what is asked of one job, and start nothing; for a home that no server looks after."""
        with self._store.reading() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == job_id)).one()
        self._settle(row)

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self._look()
            except TuneforkError as error:  # the disk is full, or the database held
                log.error("jobs wait: %s", error)
            except Exception:  # noqa: BLE001  the boundary: one bad job must not stop all
                log.exception("jobs wait")
            self._wakes.wait(_LOOK_EVERY_S)
            self._wakes.clear()

    def _look(self) -> None:
        with self._store.reading() as session:
            query = select(JobRow).where(
                JobRow.state.in_(("validating_files", "queued", "running", "paused"))
            )
            rows = list(session.scalars(query.order_by(JobRow.number)))
        for row in rows:
            self._settle(row)
        active = [row for row in rows if row.pid is not None]
        n_validating = sum(row.state == "validating_files" for row in active)
        free = [each for each in self._workers.devices if each not in {r.device for r in active}]
        for row in _in_turn(rows):
            if row.pid is not None or row.wish is not None:
                continue
            if row.state == "validating_files" and n_validating < _VALIDATORS:
                n_validating += 1
                self._start(row, None, "--check")
            elif row.state in ("queued", "running") and free:
                self._start(row, free.pop(0))

    def _settle(self, row: JobRow) -> None:
        """See how a job's worker does, and do what is asked of the job."""
        if row.pid is not None:
            self._follow(row)
        elif row.wish == "cancel":
            self._end(row, "cancelled", "The job was cancelled")
        elif row.wish == "pause":
            self._change(row, state="paused", wish=None)
            self._folder(row).add_event("The job was paused")

    def _folder(self, row: JobRow) -> JobFolder:
        return JobFolder(self._store.jobs / row.id)

    def _change(self, row: JobRow, **values: Any) -> None:
        with self._store.writing() as session:
            known = session.get_one(JobRow, row.number)
            for name, value in values.items():
                setattr(known, name, value)
        for name, value in values.items():
            setattr(row, name, value)

    def _start(self, row: JobRow, device: str | None, *options: str) -> None:
        folder = self._folder(row)
        folder.clear_end()
        environment = {**os.environ, **self._workers.environment}
        if row.owner != LOCAL:  # who brings the same data as another does not find it prepared
            environment[CACHE] = str(self._store.folder.resolve() / "caches" / row.owner)
        if device is not None and device.isdigit():
            environment["CUDA_VISIBLE_DEVICES"] = device
        command = [*self._workers.command, str(folder.path), *options]
        # What killed it twice may have been its size: then it computes less at once.
        halvings = max(0, row.n_deaths - 1)
        if row.state == "queued":  # told first: the worker tells its own events at once
            folder.add_event("Fine-tuning job started")
        pid = _spawn([*command, f"--halvings={halvings}"], environment, folder)
        self._children.add(pid)
        started = _start_of(pid)
        state = "running" if device is not None else row.state
        self._change(row, state=state, pid=pid, pid_started=started, device=device)

    def _follow(self, row: JobRow) -> None:
        is_alive = self._is_alive(row)
        if row.wish == "cancel":
            self._signal(row, signal.SIGKILL)
            if not self._is_alive(row):  # else it is looked at again
                self._end(row, "cancelled", "The job was cancelled")
            return
        if is_alive:
            if row.wish == "pause" and row.state == "running":
                self._signal(row, signal.SIGTERM, leader_only=True)
            return
        self._signal(row, signal.SIGKILL)  # whatever it may have left of its session
        end = self._folder(row).end()
        if end is None:
            self._died(row)
        else:
            self._ended(row, end)

    def _is_alive(self, row: JobRow) -> bool:
        assert row.pid is not None, "it was started"
        if row.pid in self._children and _has_ended(row.pid):
            self._children.discard(row.pid)
            return False
        started = _start_of(row.pid)
        if started is None or row.pid_started is None:
            return False
        return abs(started - row.pid_started) < _SAME_START_S

    def _signal(self, row: JobRow, number: signal.Signals, *, leader_only: bool = False) -> None:
        """Send a signal to a worker's whole session, or to the worker alone."""
        if row.pid is None:
            return
        started = _start_of(row.pid)
        is_other = started is not None and abs(started - (row.pid_started or 0)) >= _SAME_START_S
        if is_other:
            return  # its number is another process's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if leader_only:
                os.kill(row.pid, number)
            else:
                os.killpg(row.pid, number)

    def _ended(self, row: JobRow, end: dict[str, Any]) -> None:
        folder = self._folder(row)
        if end["end"] == "validated":
            self._change(row, state="queued", pid=None, n_deaths=0)
            folder.add_event("Files validated, moving job to queued state")
        elif end["end"] == "paused":
            if row.wish != "pause":  # somebody else stopped it: it goes on
                self._change(row, state="queued", pid=None, device=None)
                return
            self._change(row, state="paused", pid=None, device=None, wish=None)
            folder.add_event("The job was paused; it goes on from here when it is resumed")
        elif end["end"] == "succeeded":
            self._succeeded(row, end["result"])
        else:
            self._end(row, "failed", f"The job failed: {end['error']['message']}", end["error"])

    def _succeeded(self, row: JobRow, result: dict[str, Any]) -> None:
        folder = self._folder(row)
        name = self._keep_results(row, folder)
        self._change(
            row,
            state="succeeded",
            finished=now(),
            result=result,
            result_file=name,
            pid=None,
            device=None,
            wish=None,
        )
        verdict = {"verdict": result["verdict"], "reasons": result["reasons"]}
        folder.add_event(f"The gate says: {result['verdict']}", data=verdict)
        folder.add_event(f"New fine-tuned model created: {row.tuned}")
        folder.add_event("The job has successfully completed")

    def _keep_results(self, row: JobRow, folder: JobFolder) -> str:
        name, text = new_id("file-"), results_csv(folder)
        write_text(self._store.files / name, text)
        kept = FileRow(
            id=name,
            owner=row.owner,
            size_bytes=len(text.encode()),
            created=now(),
            filename="step_metrics.csv",
            purpose=RESULTS,
        )
        with self._store.writing() as session:
            session.add(kept)
        return name

    def _died(self, row: JobRow) -> None:
        """Start a worker again that ended without a word, twice at most."""
        folder = self._folder(row)
        if row.wish == "pause":
            self._change(row, state="paused", pid=None, device=None, wish=None)
            folder.add_event("The job was paused; it goes on from here when it is resumed")
            return
        if row.n_deaths < _MOST_DEATHS:
            self._change(row, pid=None, device=None, n_deaths=row.n_deaths + 1)
            folder.add_event(
                "The worker was killed; another one goes on from the last checkpoint", "warn"
            )
            return
        times = _MOST_DEATHS + 1
        message = (
            f"the worker was killed {times} times without a word, as a system does that has too "
            "little memory"
        )
        error = {"code": "worker_killed", "message": message, "param": None}
        self._end(row, "failed", f"The job failed: {message}", error)

    def _end(
        self, row: JobRow, state: str, message: str, error: dict[str, Any] | None = None
    ) -> None:
        self._change(
            row, state=state, finished=now(), error=error, pid=None, device=None, wish=None
        )
        self._folder(row).add_event(message, "error" if state == "failed" else "info")


def _in_turn(rows: Sequence[JobRow]) -> list[JobRow]:
    """Return jobs as it is their turn: the first of each owner, then the second of each."""
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        if row.state != "paused":
            turns.append((seen[row.owner], row.number, row))
            seen[row.owner] += 1
    return [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])]


def _spawn(command: Sequence[str], environment: Mapping[str, str], folder: JobFolder) -> int:
    """Start a worker in a session of its own, and return its number."""
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with writing(folder.log):
        return os.posix_spawn(
            command[0],
            list(command),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder.log), log_flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )


def _has_ended(pid: int) -> bool:
    """Say whether a child has ended; its number is free then."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _start_of(pid: int) -> float | None:
    """Return when a process began; None where there is none that still runs."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except psutil.Error:
        return None
