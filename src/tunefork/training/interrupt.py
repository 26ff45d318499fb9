"""Ctrl-C and SIGTERM while training: the step is finished, a checkpoint saved, then it ends.

A second Ctrl-C stops at once, as everywhere else in the program.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from tunefork.core.errors import Stopped, Terminated
from tunefork.core.events import Noted, Sink

# One Ctrl-C may arrive twice, when a whole process group is told: that is no second one.
_ECHO_S = 0.5


class StopRequest:
    """Whether the run shall stop, and why."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.asked_at_s = 0.0

    @property
    def is_asked(self) -> bool:
        """Whether to stop before the next step."""
        return self.signal_number is not None

    def error(self, step: int, steps: int) -> Stopped:
        """Return what to raise once the run is saved."""
        kind = Terminated if self.signal_number == signal.SIGTERM else Stopped
        return kind(f"stopped at step {step} of {steps} and saved", hint="go on with `--resume`")


@contextlib.contextmanager
def stop_signals(sink: Sink) -> Iterator[StopRequest]:
    """Collect SIGINT and SIGTERM instead of dying of them; as before on leaving.

    Only a main thread may do so; in any other thread nothing is asked, ever.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if stop.is_asked:
            if number == signal.SIGINT and now_s - stop.asked_at_s >= _ECHO_S:
                raise KeyboardInterrupt
            return
        stop.signal_number, stop.asked_at_s = number, now_s
        with contextlib.suppress(RuntimeError):  # it came while something was being printed
            sink(Noted("stopping after this step; Ctrl-C again stops at once, without saving"))

    # What is ignored stays ignored, as `nohup` and shells' background jobs want it.
    caught = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, ask) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
