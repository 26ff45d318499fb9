"""Measure one cell in a process of its own, and keep the result so that it can be resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cells import ELSEWHERE, Cell
from benchmarks.machine import allocators
from benchmarks.places import CHECKOUT
from benchmarks.workers.common import Job
from tunefork.core.files import write_json
from tunefork.core.hashing import hash_json
from tunefork.core.threads import short_waits

DISTURBED = 0.1  # cores that other programs used meanwhile; more, and it is measured again
_ATTEMPTS = 3
_TIMEOUT_S = 1200.0
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Outcome:
    """A cell's result, or why there is none."""

    cell: Cell
    result: dict[str, Any] = field(default_factory=dict)  # see `Meter.result`
    refused: str = ""
    work: dict[str, Any] = field(default_factory=dict)  # see `same_work`; empty for our own

    @property
    def is_usable(self) -> bool:
        """Say whether it was measured, and did the same work as we."""
        return not self.refused and bool(self.work.get("is_same", True))

    @property
    def speed(self) -> float:
        """Real tokens per second."""
        return float(self.result["tokens_per_second"])

    @property
    def peak(self) -> int:
        """Bytes at most, beyond what was resident before the model was loaded."""
        return int(self.result["peak_bytes"])


@dataclass(frozen=True)
class Runner:
    """Starts workers. Finished cells are read from `folder` instead of measured again."""

    folder: Path
    peers_python: Path
    attempts: int = _ATTEMPTS  # at a cell that other programs disturb

    def is_kept(self, cell: Cell, job: Job) -> bool:
        """Say whether a cell is finished."""
        return self._kept(cell, job).is_file()

    def run(self, cell: Cell, job: Job) -> Outcome:
        """Measure a cell. A worker that fails or takes too long is a refusal, not an error."""
        kept = self._kept(cell, job)
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
        else:
            found = self._undisturbed(cell, job)
            write_json(kept, found)
            _say(f"{cell.contestant:8} {cell.name:45} {_shown(found)}")
        refused = str(found.get("refused", ""))
        return Outcome(cell, {} if refused else found, refused)

    def _kept(self, cell: Cell, job: Job) -> Path:
        key = hash_json(asdict(job)).removeprefix("sha256:")[:16]
        return self.folder / f"{cell.contestant}-{key}.json"

    def _undisturbed(self, cell: Cell, job: Job) -> dict[str, Any]:
        """Return the result that other programs disturbed least, of as many as it takes."""
        best: dict[str, Any] = {}
        for _ in range(self.attempts):
            found = self._start(cell.contestant, cell.allocator, job)
            if "refused" in found:
                return best or found
            if not best or found["other_cores"] < best["other_cores"]:
                best = found
            if best["other_cores"] <= DISTURBED:
                break
        return best

    def limit(self, cell: Cell, job: Job) -> float:
        """Return the tokens/s of the bare matrix products of a job's steps."""
        found = self._start("limit", "glibc", job)
        _say(f"{'limit':8} {cell.dtype:45} {_shown(found)}")
        return float(found["tokens_per_second"])

    def _start(self, worker: str, allocator: str, job: Job) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "job.json"
        write_json(path, asdict(job))
        python = str(self.peers_python) if worker in ELSEWHERE else sys.executable
        # The peers see our harness only, we this checkout's engine, whatever else is installed.
        paths = [CHECKOUT] if worker in ELSEWHERE else [CHECKOUT, CHECKOUT / "src"]
        environment = {
            **quiet_environment(self.folder),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            **({} if worker in ELSEWHERE else short_waits()),  # as our command line sets
        }
        if allocator != "glibc":
            environment["LD_PRELOAD"] = str(allocators()[allocator])
        try:
            done = subprocess.run(
                [python, "-m", f"benchmarks.workers.{worker}", str(path)],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return {"refused": f"took longer than {_TIMEOUT_S:.0f} s"}
        if done.returncode != 0:
            (self.folder / f"failed-{worker}.log").write_text(done.stderr, encoding="utf-8")
            return {"refused": _reason(done)}
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


def quiet_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a worker: nothing is fetched, and nothing is said."""
    return {**os.environ, **_ENVIRONMENT, "HF_HOME": str(folder / "hub")}


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -signal.SIGKILL:
        return "killed by the system, most likely out of memory"
    return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def _shown(found: dict[str, Any]) -> str:
    if found.get("refused"):
        return f"refused: {found['refused']}"
    peak = f", {found['peak_bytes'] / 1e6:,.0f} MB" if "peak_bytes" in found else ""
    return f"{found['tokens_per_second']:,.0f} tokens/s{peak}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
