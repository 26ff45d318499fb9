"""What every worker shares: its job, its rows, and the measuring of time and memory.

A worker is started as `python -m benchmarks.workers.NAME JOB.json` and prints one line of JSON.
Nothing here imports torch, so that memory can be noted at the same point by everyone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_STATUS = Path("/proc/self/status")
_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tunefork")
RANK, ALPHA = 16, 32.0  # of the first adapter
IGNORED = -100  # the label of a token that is not trained


Clock = Literal["wall", "cpu"]


def clock_of(kind: Clock) -> Callable[[], float]:
    """Return what tells seconds: on the clock, or those of all threads of this process together."""
    return time.perf_counter if kind == "wall" else time.process_time


class RefusedError(Exception):
    """This contestant cannot do this cell; the message says why."""


@dataclass(frozen=True)
class Job:
    """One cell to measure."""

    model: str  # folder
    adapter: str | None  # folder of a PEFT adapter with B = 0; None trains all weights
    rows: str  # file that `Rows.load` reads
    steps: list[list[int]]  # the rows of each optimizer step
    warm_up: int  # steps at the beginning that are not counted
    learning_rate: float
    cell: dict[str, Any]  # see benchmarks/cells.py
    shared: int = 0  # tokens at the beginning that all rows have in common
    round: int = 0  # tells repetitions apart


@dataclass(frozen=True)
class Rows:
    """Ragged rows end to end: row i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int32]  # (tokens,)
    offsets: NDArray[np.int64]  # (rows + 1,)
    prompts: NDArray[np.int64]  # (rows,): tokens at the beginning of each row that are not trained

    @classmethod
    def load(cls, path: str | Path) -> Rows:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["ids"], arrays["offsets"], arrays["prompts"])

    def save(self, path: Path) -> None:
        """Write one file."""
        with path.open("wb") as file:
            np.savez(file, ids=self.ids, offsets=self.offsets, prompts=self.prompts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, (rows,)."""
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[list[int], list[int]]:
        """Return a row's ids and labels."""
        ids = self.ids[self.offsets[index] : self.offsets[index + 1]].tolist()
        prompt = int(self.prompts[index])
        return ids, [IGNORED] * prompt + ids[prompt:]


@dataclass
class Meter:
    """Notes time and memory. A worker calls `before_model`, `before_training`, `step_done`."""

    resident_before: int = 0  # bytes, with everything imported and no model loaded
    peak_loading: int = 0  # bytes
    times: list[float] = field(default_factory=list)  # of each step's end; the first is the start
    processor: list[float] = field(default_factory=list)  # the same in time of the processors
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)  # of the gradient, before clipping
    others_before: float = 0.0  # seconds of processor time that other programs had used

    def before_model(self) -> None:
        """Everything is imported, and the model is about to be loaded."""
        _forget_peak()
        self.resident_before = _status_bytes("VmRSS")

    def before_training(self) -> None:
        """The model is loaded, and the first step is about to begin."""
        self.peak_loading = _peak_bytes()
        _forget_peak()
        self.others_before = _others_seconds()
        self.processor.append(time.process_time())
        self.times.append(time.perf_counter())

    def step_done(self, loss: float, norm: float) -> None:
        """One optimizer step is done, its weights moved."""
        self.times.append(time.perf_counter())
        self.processor.append(time.process_time())
        self.losses.append(loss)
        self.norms.append(norm)

    def result(self, job: Job, rows: Rows) -> dict[str, Any]:
        """Return what the worker prints. Sizes in bytes, rates without the warm-up steps."""
        others = _others_seconds() - self.others_before
        training = _peak_bytes()
        peak = max(training, self.peak_loading)
        seconds = np.diff(self.times).tolist()
        tokens = [int(rows.lengths[step].sum()) for step in job.steps]
        counted = sum(seconds[job.warm_up :])
        return {
            "tokens_per_second": sum(tokens[job.warm_up :]) / counted,
            "rows_per_second": sum(map(len, job.steps[job.warm_up :])) / counted,
            "seconds": seconds,
            "processor_seconds": np.diff(self.processor).tolist(),
            "tokens": tokens,
            "losses": self.losses,
            "gradient_norms": self.norms,
            "peak_bytes": peak - self.resident_before,
            "peak_training_bytes": training - self.resident_before,
            "peak_absolute_bytes": peak,
            "other_cores": max(0.0, others / (self.times[-1] - self.times[0])),
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """Return the versions of what this environment has of the packages that matter."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def run_worker(measure: Callable[[Job, Rows], dict[str, Any]]) -> None:
    """Read the job named on the command line, measure it, and print the result as one line."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout, which is ours
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        result = measure(job, Rows.load(job.rows))
    except RefusedError as error:
        result = {"refused": str(error)}
    answer.write(json.dumps(result) + "\n")
    answer.flush()


def _forget_peak() -> None:
    # Linux starts the peak anew from what is resident now; elsewhere it counts from the start.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    if _STATUS.exists():
        return _status_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _others_seconds() -> float:
    """Return the processor time of everything but this process, or 0 where nobody counts it."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _, _, interrupt, soft, stolen = map(int, path.read_text().split()[1:9])
    ticks = user + nice + system + interrupt + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def _status_bytes(key: str) -> int:
    if not _STATUS.exists():
        return _peak_bytes()
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
