"""Attack the sandbox of this machine from inside, and say what holds."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import InputError
from tunefork.graders.grade import Failure
from tunefork.graders.sandbox.backends import Isolation
from tunefork.graders.sandbox.limits import Limits
from tunefork.graders.sandbox.run import Sandbox

_LIMITS = Limits(timeout_s=0.5, memory_bytes=1 << 28, file_bytes=1 << 16)
_ATTACKS = (Path(__file__).parent / "attacks.py").resolve()
_PATIENCE_S = 1.0  # how much later than its limit a process may be ended


@dataclass(frozen=True)
class Verification:
    """What was seen to hold.

    Attributes:
        isolation: How programs are isolated, or None where no sandbox starts.
        holds: Whether each attack was stopped: `network`, `files`, `write`, `processes`,
            `signals`, `environment`, `memory`, `rights`, `time`.
    """

    isolation: Isolation | None
    holds: Mapping[str, bool]

    @property
    def is_verified(self) -> bool:
        """Whether strangers' programs may run here."""
        return self.isolation is not None and all(self.holds.values())

    def require(self) -> None:
        """Let programs of strangers run.

        Raises:
            InputError: They must not, and what does not hold.
        """
        if not self.is_verified:
            broken = ", ".join(name for name, held in self.holds.items() if not held)
            raise InputError(
                f"`python` graders are off: the sandbox of this machine does not hold ({broken})",
                hint="allow user namespaces, or install bubblewrap; on Linux only",
            )


def verify(isolations: list[Isolation] | None = None) -> Verification:
    """Run every attack of `attacks` in the sandbox; takes about a second.

    Each attack is aimed at something that is there: a port that this process listens on, a
    file that it has just written, its own process number. An attack that fails to run at all
    counts as not stopped.
    """
    source = _ATTACKS.read_text(encoding="utf-8")
    with (
        Sandbox(_LIMITS, isolations) as sandbox,
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        secret = Path(folder) / "secret"
        secret.write_text(secrets.token_hex(), encoding="ascii")
        targets = {
            "port": server.getsockname()[1],
            "files": [str(secret), "/etc/passwd", str(Path.home())],
            "folder": folder,
            "process": os.getpid(),
            "memory_bytes": 2 * _LIMITS.memory_bytes,
            "environment": sorted(os.environ),
        }
        isolation = sandbox.isolation()
        names = ["network", "files", "write", "processes", "signals", "environment", "memory"]
        holds = {name: _is_stopped(sandbox, source, name, targets) for name in [*names, "rights"]}
        holds["time"] = _ends_in_time(sandbox, source)
    return Verification(isolation, holds)


def _is_stopped(sandbox: Sandbox, source: str, attack: str, targets: Mapping[str, object]) -> bool:
    return sandbox.run(source, {}, {**targets, "attack": attack}) == 1.0


def _ends_in_time(sandbox: Sandbox, source: str) -> bool:
    start = time.monotonic()
    ended = sandbox.run(source, {}, {"attack": "time"})
    return isinstance(ended, Failure) and time.monotonic() - start < (
        _LIMITS.timeout_s + _PATIENCE_S
    )
