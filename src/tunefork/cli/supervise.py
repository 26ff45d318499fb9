"""Training runs in a child process, and this is its parent: it waits, and tells how it ended.

A system without enough memory kills the process that takes most of it, which then can say
nothing. The parent sees it, says so, and starts the command again: it goes on from the last
checkpoint and computes half as much at once. It holds no model and imports nothing heavy.

Signals: Ctrl-C in a terminal reaches parent and child alike, so the parent only waits; what is
sent to the parent alone is passed on. A child whose parent is gone is ended by the system.
Only Linux counts such kills; on other systems, and from Python, there is no parent and no child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tunefork.cli.lines import json_line
from tunefork.core.allocator import quick_allocator
from tunefork.core.errors import RunError

_VERBS = {"train", "run", "compare", "demo", "sweep"}
_PARENT = "TUNEFORK_SUPERVISOR"  # in the child's environment: the parent's process number
_HALVINGS = "--halvings"
_MOST_HALVINGS = 4
_FROM_TERMINAL = 0x80  # Linux's SI_KERNEL: who sent a signal
_PR_SET_PDEATHSIG = 1
_KILLED = 128 + 9  # what shells report for SIGKILL


def needs_supervisor(arguments: list[str]) -> bool:
    """Say whether a command is one that may be killed for its memory, where that is counted."""
    is_training = arguments[:1] != [] and arguments[0] in _VERBS
    is_asking = not {"-h", "--help"}.isdisjoint(arguments)
    return is_training and not is_asking and bool(sys.executable) and memory_kills() is not None


def follow_supervisor() -> bool:
    """Say whether this process is a supervised child; if so, tie its life to the parent's."""
    parent = os.environ.pop(_PARENT, None)
    if parent is None:
        return False
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before it could be followed
        os._exit(_KILLED)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)  # blocked by the parent for itself
    return True


def supervise(
    arguments: list[str],
    *,
    read_kills: Callable[[], int | None] | None = None,
    program: tuple[str, ...] = (sys.executable, "-P", "-m", "tunefork.cli"),
) -> int:
    """Run a command in a child process, again with less where the system killed it for memory.

    Args:
        arguments: The command line, without the program's name.
        read_kills: Returns how many processes the system has killed for memory.
        program: What to run them with. `-P`: files of the user's folder are no modules.

    Returns:
        The exit code, as shells report it.
    """
    read_kills = read_kills or memory_kills
    for halvings in range(_MOST_HALVINGS + 1):
        again = ["--resume", f"{_HALVINGS}={halvings}"] if halvings else []
        before = read_kills()
        code = _run_child([*program, arguments[0], *again, *arguments[1:]])
        if code != -signal.SIGKILL or read_kills() == before:
            break
        if halvings < _MOST_HALVINGS:
            _say(
                "warning: the system killed the training for want of memory; going on from its "
                f"last checkpoint, half as much computed at once ({halvings + 1} of "
                f"{_MOST_HALVINGS} tries)"
            )
    else:
        return _give_up(arguments)
    if code >= 0:
        return code
    if code != -signal.SIGINT:
        _say(f"ended by {_signal_name(-code)}; go on with: {command_to_resume(arguments)}")
    return 128 - code


def command_to_resume(arguments: list[str]) -> str | None:
    """Return what to type to go on with a command, None where nothing can be gone on with."""
    if not arguments or arguments[0] not in _VERBS:
        return None
    given = [each for each in arguments[1:] if each != "--resume" and _HALVINGS not in each]
    # In front where `--` makes all that follows a name.
    options = (
        [arguments[0], "--resume", *given] if "--" in given else [arguments[0], *given, "--resume"]
    )
    return shlex.join(["tunefork", *options])


def memory_kills(root: Path = Path("/")) -> int | None:
    """Return how many processes the system, or this container, has killed for want of memory.

    None where it does not count.
    """
    counts = [
        count
        for path in (root / "proc/vmstat", *_group_files(root))
        if (count := _read_count(path)) is not None
    ]
    return sum(counts) if counts else None


def _group_files(root: Path) -> list[Path]:
    """Return where the control groups of this process, of version 1 or 2, count such kills."""
    files = []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                files.append(root / "sys/fs/cgroup" / group.strip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                files.append(
                    root / "sys/fs/cgroup/memory" / group.strip("/") / "memory.oom_control"
                )
    return files


def _read_count(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _run_child(command: list[str]) -> int:
    """Run a command to its end; return its exit code, or minus the signal that ended it."""
    # Blocked, signals wait until they are asked for: none can end the parent before its child.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        environment = {**os.environ, **quick_allocator(), _PARENT: str(os.getpid())}
        child = subprocess.Popen(command, env=environment)
        while child.poll() is None:
            found = signal.sigtimedwait(_WATCHED, 1.0)
            if found is None or found.si_signo == signal.SIGCHLD:
                continue
            if not (found.si_signo == signal.SIGINT and found.si_code == _FROM_TERMINAL):
                child.send_signal(found.si_signo)
        while signal.sigtimedwait(_WATCHED, 0) is not None:
            pass  # what came for the child as it ended
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    return child.returncode


def _give_up(arguments: list[str]) -> int:
    error = RunError(
        f"the system killed the training for want of memory {_MOST_HALVINGS + 1} times",
        hint="close other programs, lower `training.max_length`, or choose a smaller base; then: "
        f"{command_to_resume(arguments)}",
    )
    if "--json" in arguments:
        sys.stdout.write(json_line({"error": error.as_dict()}))
    _say(f"error: {error}")
    return _KILLED


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_WATCHED = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGCHLD") if hasattr(signal, name)
)
