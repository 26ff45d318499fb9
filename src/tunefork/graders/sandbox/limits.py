"""How much a program in the sandbox may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one process; beyond them a program fails or is ended.

    Attributes:
        timeout_s: Wall-clock seconds for one answer.
        start_s: Wall-clock seconds to start Python and load the program.
        memory_bytes: Address space; room for numpy and its like.
        file_bytes: The largest file; only a file in memory can be made at all.
        n_open_files: Open files at one time.
        reply_bytes: The longest reply that is read.
        n_losses: Ends of the process one after the other (by time, by crash) after which a
            program is not tried any more.
    """

    timeout_s: float = 2.0
    start_s: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20
    n_open_files: int = 32
    reply_bytes: int = 1 << 16
    n_losses: int = 3
