"""One process of the sandbox, seen from outside: started, spoken to, ended.

Nothing that comes out of it is trusted: replies are bounded in length and time, and must be
objects in JSON with the number of the request.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from tunefork.graders.sandbox.backends import ENVIRONMENT, Isolation, command
from tunefork.graders.sandbox.limits import Limits

_PIECE_BYTES = 1 << 16


class WorkerLostError(RuntimeError):
    """The process is of no more use: it was too slow, ended itself or spoke nonsense."""


class RefusedError(RuntimeError):
    """This way of isolating does not work on this machine."""


class Worker:
    """A process that has loaded one program. Not for several threads at once."""

    def __init__(self, isolation: Isolation, limits: Limits) -> None:
        self._limits = limits
        self._held = b""
        self._n_asked = 0
        self._allowed_s = limits.start_s
        self._process = subprocess.Popen(
            command(isolation, limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin.fileno()
        self._replies = self._process.stdout.fileno()
        os.set_blocking(self._requests, False)

    def load(self, source: str) -> str | None:
        """Wait for the walls, load a program, and return what is wrong with it, or None.

        Raises:
            RefusedError: The walls cannot be built here.
            WorkerLostError: The process was lost.
        """
        deadline = self._deadline(self._limits.start_s)
        try:
            greeting = self._line(deadline)
        except WorkerLostError as error:
            raise RefusedError(str(error)) from error
        if "refused" in greeting:
            raise RefusedError(str(greeting["refused"]))
        self._send({"source": source}, deadline)
        return _error_in(self._reply(0, deadline))

    def mark(self, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float | str:
        """Return the program's number for one answer, or what is wrong.

        Raises:
            WorkerLostError: The process was lost.
        """
        deadline = self._deadline(self._limits.timeout_s)
        self._n_asked += 1
        self._send({"id": self._n_asked, "sample": sample, "item": item}, deadline)
        reply = self._reply(self._n_asked, deadline)
        error, score = _error_in(reply), reply.get("score")
        if error is None and (isinstance(score, bool) or not isinstance(score, int | float)):
            raise WorkerLostError("the program spoke in place of its process")
        return error or float(score or 0.0)

    def close(self) -> None:
        """End the process, and with it all that is inside."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _deadline(self, allowed_s: float) -> float:
        self._allowed_s = allowed_s
        return time.monotonic() + allowed_s

    def _send(self, message: Mapping[str, Any], deadline: float) -> None:
        line = json.dumps(message, default=str).encode() + b"\n"
        while line:
            self._wait(deadline, writing=True)
            try:
                line = line[os.write(self._requests, line[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise WorkerLostError("the program ended its process") from error

    def _reply(self, number: int, deadline: float) -> dict[str, Any]:
        reply = self._line(deadline)
        if reply.get("id") != number:
            raise WorkerLostError("the program spoke in place of its process")
        return reply

    def _line(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._held:
            if len(self._held) > self._limits.reply_bytes:
                raise WorkerLostError("the program wrote without end")
            self._wait(deadline, writing=False)
            piece = os.read(self._replies, _PIECE_BYTES)
            if not piece:
                raise WorkerLostError("the program ended its process")
            self._held += piece
        line, self._held = self._held.split(b"\n", 1)
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise WorkerLostError("the program spoke in place of its process") from error
        if not isinstance(reply, dict):
            raise WorkerLostError("the program spoke in place of its process")
        return reply

    def _wait(self, deadline: float, *, writing: bool) -> None:
        """Wait until the pipe is ready, `poll` for servers with more files than `select` takes."""
        poll = select.poll()
        poll.register(
            self._requests if writing else self._replies,
            select.POLLOUT if writing else select.POLLIN,
        )
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise WorkerLostError(f"the program took longer than {self._allowed_s:g} s")


def _error_in(reply: Mapping[str, Any]) -> str | None:
    error = reply.get("error")
    return None if error is None else str(error)
