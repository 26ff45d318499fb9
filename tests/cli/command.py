"""Run a command of the program in this process, and keep what it printed."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tunefork.cli import run_here


@dataclass(frozen=True)
class Called:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that it printed."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        found: dict[str, Any] = json.loads(lines[0])
        return found


def call(*arguments: object, stdin: str = "") -> Called:
    """Run `tunefork ARGUMENTS...`."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    on_interrupt = signal.getsignal(signal.SIGINT)  # a command may end by ignoring it
    with (
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_here([str(argument) for argument in arguments])
        except SystemExit as error:
            code = 0 if error.code is None else error.code
        finally:
            signal.signal(signal.SIGINT, on_interrupt)
    assert isinstance(code, int)
    return Called(code, out.getvalue(), err.getvalue())
