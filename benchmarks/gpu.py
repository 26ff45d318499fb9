"""LoRA fine-tuning on a GPU against the peers: `python -m benchmarks.gpu --json`.

Models of three sizes with random weights made on the GPU, short and long rows, one process per
cell, within a number of minutes. How to read the results: `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cells import OURS, Cell
from benchmarks.compare import fastest, leanest, same_work
from benchmarks.measure import Outcome
from benchmarks.model import GPU_SHAPES, save_shape
from benchmarks.places import CHECKOUT, state
from benchmarks.report import table
from benchmarks.workers.common import Job, Rows
from benchmarks.workers.limit import LORA_FLOPS, Shape
from benchmarks.workloads import Workload, make_steps
from tunefork.core.files import write_json

WORKLOADS = (
    Workload("support", "customer support", "", "support", rows_per_step=64),
    Workload("math", "school mathematics", "", "math", rows_per_step=64),
    Workload("2048", "rows of 2,048 tokens", "", "", rows_per_step=8, row_tokens=2048),
    Workload("8192", "rows of 8,192 tokens", "", "", rows_per_step=2, row_tokens=8192),
)
CONTESTANTS = (OURS, "trl", "unsloth")
_NAMES = {OURS: "tunefork", "trl": "TRL", "unsloth": "Unsloth"}
_NEEDED = {
    "TRL": ("trl", "peft", "datasets", "accelerate"),
    "Liger Kernel": ("liger_kernel",),
    "Unsloth": ("unsloth", "trl", "datasets"),
    "FlashAttention": ("flash_attn",),
}

_LEARNING_RATE = 2e-4
_COUNTED = 8
_MORE_WARM_UP = 2  # steps on top of the longest and the shortest: kernels are chosen and compiled
_CELL_LIMIT_S = 300.0
_LEAST_CELL_S = 30.0  # what a cell is expected to take before any was measured
_LOG_LINES = 15  # of what a refused cell said last
_FIND = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "UNSLOTH_DISABLE_STATISTICS": "1",
}


@dataclass(frozen=True)
class GpuCell(Cell):
    """One contestant, set up in one way, on a device."""

    order: Any = "grouped"  # rows of like length in a step, which favours who pads
    kernels: str = ""  # `liger`: TRL with the kernels of Liger
    device: str = "cuda"

    @property
    def name(self) -> str:
        """What the tables call it."""
        return ", ".join(filter(None, [self.kernels, super().name]))


def cells(contestants: Sequence[str], found: Sequence[str], device: str) -> list[list[GpuCell]]:
    """Return the cells of one workload: those that decide first, then the others.

    Args:
        contestants: Who takes part.
        found: What of `_NEEDED` the peers' environment has.
        device: Where to measure.
    """
    # Where rows lie end to end, peers without FlashAttention compute all of the mask.
    packs = "FlashAttention" in found
    usual: dict[str, Any] = {"is_packed": packs, "device": device}
    other: dict[str, Any] = {"is_packed": not packs, "device": device}
    first, others = [], []
    if OURS in contestants:
        first.append(GpuCell(OURS, device=device))
        others.append(GpuCell(OURS, is_checkpointed=True, device=device))
    if "trl" in contestants and "TRL" in found:
        kernels = "liger" if "Liger Kernel" in found else ""
        first.append(GpuCell("trl", kernels=kernels, **usual))
        others.append(GpuCell("trl", kernels=kernels, is_checkpointed=True, **usual))
        others.append(GpuCell("trl", kernels=kernels, **other))
        others.append(GpuCell("trl", kernels=kernels, dtype="bf16_pure", **usual))
        others += [GpuCell("trl", **usual)] if kernels else []
    if "unsloth" in contestants and "Unsloth" in found:
        first.append(GpuCell("unsloth", **usual))
        others.append(GpuCell("unsloth", is_checkpointed=True, **usual))
        others.append(GpuCell("unsloth", **other))
    return [first, others]


@dataclass
class Budget:
    """Time to use, on `clock`. Each shape gets an equal part of what is left when it begins."""

    end: float
    clock: Callable[[], float] = time.monotonic
    until: float = field(default=0.0, init=False)  # of the shape
    longest: float = field(default=_LEAST_CELL_S, init=False)  # seconds of a cell so far

    def begin_shape(self, n_left: int) -> None:
        """Give the next of `n_left` shapes its part."""
        now = self.clock()
        self.until = now + (self.end - now) / n_left

    @property
    def allows_another(self) -> bool:
        """Say whether a cell that takes as long as the longest so far would end in time."""
        return self.clock() + self.longest <= self.until

    @property
    def cell_seconds(self) -> float:
        """The longest that a cell may take."""
        return max(1.0, min(_CELL_LIMIT_S, self.end - self.clock()))


@dataclass(frozen=True)
class Workers:
    """Starts one process per cell, in the environment that it needs."""

    folder: Path
    peers_python: str

    def start(self, worker: str, argument: str, timeout_s: float) -> dict[str, Any]:
        """Return a worker's answer; one that fails or takes too long is refused."""
        is_peer = worker in ("trl", "unsloth")
        # The peers see our harness only, we this checkout's engine, whatever else is installed.
        paths = [CHECKOUT] if is_peer else [CHECKOUT, CHECKOUT / "src"]
        command = [self.peers_python if is_peer else sys.executable]
        command += ["-m", f"benchmarks.workers.{worker}", argument]
        environment = {
            **os.environ,
            **_ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "HF_HOME": str(self.folder / "hub"),
            # Given several, the peers would share the rows out among them.
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
        }
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return {"refused": f"took longer than {timeout_s:.0f} s"}
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return answer
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        full = [line for line in said if "out of memory" in line.lower()]
        return {"refused": (full or said)[-1][:300], "log": said[-_LOG_LINES:]}

    def peers_packages(self) -> list[str]:
        """Return what of `_NEEDED` the peers' environment has."""
        wanted = sorted({package for needed in _NEEDED.values() for package in needed})
        command = [self.peers_python, "-c", _FIND, *wanted]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        there = set(done.stdout.split())
        return [name for name, needed in _NEEDED.items() if there.issuperset(needed)]


@dataclass
class Session:
    """What is measured, and all that was found so far."""

    workers: Workers
    budget: Budget
    options: argparse.Namespace
    record: dict[str, Any]
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)  # by shape and workload

    def run(self, found: Sequence[str]) -> None:
        """Measure shapes in order of size, of each the deciding cells of all workloads first."""
        shapes = [name for name in GPU_SHAPES if name in self.options.shape]
        workloads = [known for known in WORKLOADS if known.name in self.options.workload]
        for number, shape in enumerate(shapes):
            self.budget.begin_shape(len(shapes) - number)
            for chosen in cells(self.options.contestants, found, self.options.device):
                for workload, cell in product(workloads, chosen):
                    self._measure(replace(workload, model=shape), cell)

    def _measure(self, workload: Workload, cell: GpuCell) -> None:
        """Measure a cell; one that runs out of memory again, with fewer rows at once."""
        at_once = cell.rows_at_once or workload.rows_per_step
        where = f"{workload.model} {workload.name}"
        if not self.budget.allows_another:
            self.record["skipped"].append(f"{where}: {_NAMES[cell.contestant]}, {cell.name}")
            return self._save()
        job = self._job(workload, cell)
        path = self.workers.folder / "job.json"
        write_json(path, asdict(job))
        begin = self.budget.clock()
        answer = self.workers.start(cell.contestant, str(path), self.budget.cell_seconds)
        refused = str(answer.get("refused", ""))
        outcome = Outcome(cell, {} if refused else answer, refused)
        outcomes = self.outcomes.setdefault(where, [])
        ours = next((o for o in outcomes if o.cell.contestant == OURS and not o.refused), None)
        if ours and cell.contestant != OURS and not refused:
            outcome = replace(outcome, work=same_work(ours, outcome))
        outcomes.append(outcome)
        wall_s = self.budget.clock() - begin
        if not refused:
            self.budget.longest = max(self.budget.longest, wall_s)
        self.record["cells"].append(
            {
                "where": where,
                "contestant": cell.contestant,
                "name": cell.name,
                "wall_s": wall_s,
                **(answer if refused else self._numbers(answer, job)),
                "work": outcome.work,
            }
        )
        self._save()
        print(where, *_row(self.record["cells"][-1]), sep="  ", file=sys.stderr, flush=True)
        if "out of memory" in refused.lower() and at_once > 1:
            self._measure(workload, replace(cell, rows_at_once=max(1, at_once // 4)))
        return None

    def _job(self, workload: Workload, cell: GpuCell) -> Job:
        folder = self.workers.folder / workload.model
        if not (folder / "config.json").is_file():
            save_shape(workload.model, folder)
        counted = self.options.steps + _MORE_WARM_UP
        vocabulary = GPU_SHAPES[workload.model]["vocab_size"]
        steps = make_steps(workload, vocabulary, counted)
        rows = self.workers.folder / f"rows-{workload.model}-{workload.name}.npz"
        if not rows.is_file():
            steps.rows.save(rows)
        return Job(
            model=str(folder),
            adapter="made by the worker",
            rows=str(rows),
            steps=steps.of(cell.order),
            warm_up=steps.warm_up + _MORE_WARM_UP,
            learning_rate=_LEARNING_RATE,
            cell=cell.settings(),
        )

    def _numbers(self, answer: dict[str, Any], job: Job) -> dict[str, Any]:
        rows = Rows.load(job.rows)
        counted = [row for step in job.steps[job.warm_up :] for row in step]
        lengths = [int(length) for length in rows.lengths[counted]]
        n_trained = sum(lengths) - int(rows.prompts[counted].sum())
        flops = Shape.of(job.model).lora_flops(lengths, n_trained)
        flops /= sum(answer["seconds"][job.warm_up :])
        kept = {key: value for key, value in answer.items() if key != "versions"}
        name = OURS if job.cell["contestant"] == OURS else "peers"
        self.record["versions"].setdefault(name, answer["versions"])
        return {
            "tokens_per_second": kept.pop("tokens_per_second"),
            "share_of_peak": flops / self.record["peak"]["flops"],
            "useful_flops_per_second": flops,
            **kept,
        }

    def _save(self) -> None:
        self.record["contests"] = {
            where: contest(outcomes) for where, outcomes in self.outcomes.items()
        }
        self.record |= headline(self.record["contests"])
        write_json(Path(self.options.out), self.record)


def contest(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return our fastest cell against the best peer's that was shown to do the same work."""
    ours = [outcome for outcome in outcomes if outcome.cell.contestant == OURS]
    peers = [o for o in outcomes if o.cell.contestant != OURS and o.work and o.is_usable]
    mine, theirs = fastest(ours), fastest(peers)
    my_least, their_least = leanest(ours), leanest(peers)
    if not (mine and theirs and my_least and their_least):
        return {"ratio_to_best_peer": None}
    return {
        "ratio_to_best_peer": mine.speed / theirs.speed,
        "cell": mine.cell.name,
        "best_peer": f"{_NAMES[theirs.cell.contestant]}: {theirs.cell.name}",
        "fastest_memory_share": mine.peak / theirs.peak,
        "leanest_memory_share": my_least.peak / their_least.peak,
    }


def headline(contests: dict[str, Any]) -> dict[str, Any]:
    """Return the ratio of the largest shape that has one, on its first workload, and the least."""
    ratios = {
        where: found["ratio_to_best_peer"]
        for where, found in contests.items()
        if found["ratio_to_best_peer"] is not None
    }
    largest = [where.split()[0] for where in ratios][-1:]
    chosen = next((where for where in ratios if [where.split()[0]] == largest), None)
    return {
        "ratio_to_best_peer": ratios[chosen] if chosen else None,
        "headline": chosen,
        "smallest_ratio": min(ratios.values(), default=None),
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [
        f"# LoRA fine-tuning on {record['device']['name']}",
        "",
        f"Shares are of {record['peak']['flops'] / 1e12:,.4g} TFLOP/s: {record['peak']['source']}.",
        f"Missing: {', '.join(record['missing']) or 'nothing'}. "
        f"Not reached in time: {len(record['skipped'])} cells.",
    ]
    header = ("who", "cell", "tokens/s", "of peak", "peak MB", "reserved MB", "work")
    for where, found in record["contests"].items():
        ratio = found["ratio_to_best_peer"]
        verdict = f"**{ratio:.2f} times** {found['best_peer']}" if ratio else "No ratio"
        rows = [_row(cell) for cell in record["cells"] if cell["where"] == where]
        lines += ["", f"## {where}", "", f"{verdict}.", "", *table(header, rows)]
    return "\n".join(lines) + "\n"


def _row(cell: dict[str, Any]) -> tuple[str, ...]:
    who = _NAMES[cell["contestant"]]
    if "refused" in cell:
        return (who, cell["name"], "refused", "", "", "", cell["refused"].replace("|", "/"))
    is_same = cell["work"].get("is_same")
    reserved = cell.get("reserved_bytes")
    return (
        who,
        cell["name"],
        f"{cell['tokens_per_second']:,.0f}",
        f"{cell['share_of_peak']:.1%}",
        f"{cell['peak_bytes'] / 1e6:,.0f}",
        f"{reserved / 1e6:,.0f}" if reserved else "",
        "" if is_same is None else "same" if is_same else "another, not counted",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, writing the record after every cell; print it as JSON, or the tables."""
    options = _parse(arguments)
    peers = shutil.which(options.peers)
    if peers is None:
        print(f"there is no interpreter `{options.peers}`", file=sys.stderr)
        return 1
    folder = state() / "work" / f"gpu-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}"
    folder.mkdir(parents=True)
    workers = Workers(folder, os.path.abspath(peers))  # cells run in a folder of their own
    budget = Budget(time.monotonic() + 60 * options.minutes)
    device = workers.start("device", options.device, _CELL_LIMIT_S)
    if "refused" in device:
        print(f"no device `{options.device}`: {device['refused']}", file=sys.stderr)
        return 1
    wants_peers = set(options.contestants) != {OURS}
    found = workers.peers_packages() if wants_peers else []
    record = {
        **headline({}),
        "title": "LoRA fine-tuning on a GPU",
        "date": datetime.date.today().isoformat(),
        "device": device,
        "peak": device.pop("peak"),
        "flops": LORA_FLOPS,
        "found": found,
        "missing": [name for name in _NEEDED if name not in found] if wants_peers else [],
        "minutes": options.minutes,
        "counted_steps": options.steps,
        "machine": machine.describe(),
        "versions": {},
        "skipped": [],
        "contests": {},
        "cells": [],
    }
    Session(workers, budget, options, record).run(found)
    print(json.dumps(record) if options.json else markdown(record))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    names = [workload.name for workload in WORKLOADS]
    folder = Path(os.environ.get("OUT") or state() / "results")
    add = parser.add_argument
    add("--json", action="store_true", help="print the record, not the tables")
    add("--device", default="cuda", choices=["cuda", "cpu"], help="cpu only tries the script out")
    add("--shape", nargs="+", default=list(GPU_SHAPES)[1:], choices=list(GPU_SHAPES))
    add("--workload", nargs="+", default=names, choices=names)
    add("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    add("--peers", default=sys.executable, help="interpreter that has the peers [default: this]")
    add("--minutes", type=float, default=25.0, help="start no cell that would end later")
    add("--steps", type=int, default=_COUNTED, help="timed steps of a cell")
    add("--out", default=str(folder / "gpu.json"), help="default: $OUT/gpu.json, or in the home")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
