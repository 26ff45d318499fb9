"""Run programs in the best sandbox that this machine has, one process per program."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tunefork.graders.grade import Failure
from tunefork.graders.sandbox.backends import Isolation, available
from tunefork.graders.sandbox.limits import Limits
from tunefork.graders.sandbox.worker import RefusedError, Worker, WorkerLostError

_MOST_PROCESSES = 4
_NOTHING = "def grade(sample, item):\n    return 0"


@dataclass
class _Program:
    """What is known of one program: its process, its fault, its recent losses."""

    worker: Worker | None = None
    fault: str | None = None
    n_losses: int = 0


class Sandbox:
    """Runs `grade(sample, item)` of programs; a context manager, for one thread.

    A process is started at the first run of a program and serves all later ones; it is started
    anew after a crash or a timeout. Programs never share a process. Four stay alive; of more,
    the one that was not used for longest is ended.
    """

    def __init__(
        self, limits: Limits | None = None, isolations: list[Isolation] | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._left = isolations or available()
        self._reasons: list[str] = []
        self._programs: OrderedDict[str, _Program] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for program in self._programs.values():
            _end(program)

    def isolation(self) -> Isolation | None:
        """Return how programs are isolated here, or None where nothing works.

        Starts a process to find out, where none was started yet.
        """
        if not self._programs:
            self.run(_NOTHING, {}, {})
        return self._left[0] if self._left else None

    def describe(self) -> str:
        """Say in plain words how programs are isolated, and why not better."""
        said = {
            "namespaces": "without network and files, in Linux namespaces",
            "bubblewrap": "without network and files, in bubblewrap",
            "limits": "bounded in time and memory, but able to read your files",
            None: "not at all: no sandbox starts here",
        }[self.isolation()]
        why = f" ({'; '.join(self._reasons)})" if self._reasons else ""
        return f"programs run {said}{why}"

    def run(
        self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]
    ) -> float | Failure:
        """Return what a program returns for one answer: a finite number, or why there is none."""
        program = self._program(source)
        if program.fault is not None:
            return Failure("python_grader_runtime_error", program.fault)
        try:
            worker = program.worker or self._started(source, program)
            if worker is None:
                return self._not_loaded(program)
            marked = worker.mark(sample, item)
        except WorkerLostError as error:
            return self._lost(program, str(error))
        program.n_losses = 0
        if isinstance(marked, str):
            return Failure("python_grader_runtime_error", marked)
        if not math.isfinite(marked):
            return Failure("python_grader_runtime_error", f"it returned {marked}")
        return marked

    def _program(self, source: str) -> _Program:
        program = self._programs.setdefault(source, _Program())
        self._programs.move_to_end(source)
        alive = [other for other in self._programs.values() if other.worker is not None]
        if program.worker is None and len(alive) >= _MOST_PROCESSES:
            _end(alive[0])
        return program

    def _started(self, source: str, program: _Program) -> Worker | None:
        """Start a process in the best way that works; None where it cannot serve."""
        while self._left:
            try:
                program.worker = Worker(self._left[0], self.limits)
                program.fault = program.worker.load(source)
            except (RefusedError, OSError) as error:
                _end(program)
                self._reasons.append(f"{self._left.pop(0)}: {error}")
                continue
            if program.fault is not None:
                _end(program)
            return program.worker
        return None

    def _not_loaded(self, program: _Program) -> Failure:
        if program.fault is not None:
            return Failure("python_grader_runtime_error", program.fault)
        why = "; ".join(self._reasons)
        return Failure("python_grader_server_error", f"no sandbox starts here ({why})")

    def _lost(self, program: _Program, reason: str) -> Failure:
        _end(program)
        program.n_losses += 1
        if program.n_losses >= self.limits.n_losses:
            program.fault = f"{reason}, {program.n_losses} times in a row: not tried again"
        return Failure("python_grader_runtime_error", reason)


def _end(program: _Program) -> None:
    if program.worker is not None:
        program.worker.close()
        program.worker = None
