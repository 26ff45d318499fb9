"""The command line that `sft` and `full` share, and the order in which things are measured."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine, report
from benchmarks.cells import CONTESTANTS, OURS, PEERS
from benchmarks.compare import Finalist
from benchmarks.contest import Contest, Effort, repeat, rescreen, screen
from benchmarks.measure import Outcome, Runner
from benchmarks.places import RESULTS, peers_python, state, work_folder
from benchmarks.workloads import Workload, batch_sweep, length_sweep
from tunefork.core.files import write_json, write_text

_QUICK = Effort(is_quick=True, screened=2, repeated=4)


@dataclass(frozen=True)
class Benchmark:
    """What one command measures."""

    name: str
    title: str
    settings: str  # one sentence for the report
    workloads: tuple[Workload, ...]  # the first is the headline
    learning_rate: float
    is_full: bool = False
    has_sweeps: bool = False


def run(benchmark: Benchmark, arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and return the exit code."""
    options = _parse(benchmark, arguments)
    python = Path(options.peers)
    if not python.is_file() and set(options.contestants) & set(PEERS):
        print(
            f"the peers' environment is not there: {python}\n"
            "hint: `make bench` installs it; or measure `--contestants ours` alone",
            file=sys.stderr,
        )
        return 1
    effort = replace(_QUICK if options.quick else Effort(), rounds=options.rounds)
    runner = Runner(work_folder(benchmark.name, is_resumed=options.resume), python)
    record = measure(benchmark, runner, options.contestants, effort, options.only)
    folder = Path(options.out or (state() / "results" if options.quick else RESULTS))
    ending = "-quick" if options.quick else ""
    write_json(folder / f"{benchmark.name}{ending}.json", record)
    text = report.markdown(record)
    write_text(folder / f"{benchmark.name}{ending}.md", text)
    print(json.dumps(record) if options.json else text)
    return 0


def measure(
    benchmark: Benchmark,
    runner: Runner,
    contestants: Sequence[str],
    effort: Effort,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the whole record; its first key is the headline workload's ratio."""
    wanted = {benchmark.workloads[0].name, *only} if "sweeps" in only else set(only)
    workloads = [w for w in benchmark.workloads if not only or w.name in wanted]
    if effort.is_quick and not only:
        workloads = workloads[:1]
    records: dict[str, Any] = {}
    earlier: dict[str, dict[str, list[Outcome]]] = {}  # by model
    sweeps: dict[str, Any] = {}
    for workload in workloads:
        contest = Contest(workload, runner, benchmark.learning_rate, benchmark.is_full)
        before = earlier.get(workload.model)
        screened = (
            rescreen(contest, before, effort)
            if before
            else screen(contest, contestants, list(machine.allocators()), effort)
        )
        earlier.setdefault(workload.model, screened)
        finalists = repeat(contest, screened, effort)
        limit = _limit(contest, finalists, effort)
        records[workload.name] = {
            "what": workload.what,
            **report.workload_record(screened, finalists, limit),
        }
        wants_sweeps = benchmark.has_sweeps and workload is benchmark.workloads[0]
        if wants_sweeps and not effort.is_quick and "sweeps" in (only or ("sweeps",)):
            sweeps = _sweeps(contest, records[workload.name]["best_peer"], finalists)
    return _record(benchmark, records, sweeps, effort)


def _limit(
    contest: Contest, finalists: dict[str, dict[str, Finalist]], effort: Effort
) -> float | None:
    """Return the tokens/s of the bare matrix products in our fastest cell's number format."""
    if "fastest" not in finalists.get(OURS, {}):
        return None
    cell = finalists[OURS]["fastest"].cell
    return median(contest.limit(cell, effort.repeated) for _ in range(effort.rounds))


def _sweeps(
    contest: Contest, peer: str | None, finalists: dict[str, dict[str, Finalist]]
) -> dict[str, Any]:
    """Vary rows per step and row length, our fastest cell against the best peer's."""
    if peer is None or "fastest" not in finalists.get(OURS, {}):
        return {}
    cells = (finalists[OURS]["fastest"].cell, finalists[peer]["fastest"].cell)
    found: dict[str, Any] = {}
    sweeps = {"rows per step": batch_sweep, "tokens per row": length_sweep}
    for name, make in sweeps.items():
        found[name] = []
        for workload in make(contest.workload):
            at = Contest(workload, contest.runner, contest.learning_rate, contest.is_full)
            ours, theirs = (at.measure(cell, 2) for cell in cells)
            is_done = not ours.refused and not theirs.refused
            found[name].append(
                {
                    "what": workload.what,
                    "peer": peer,
                    "ours": None if ours.refused else ours.speed,
                    "theirs": None if theirs.refused else theirs.speed,
                    "ratio": ours.speed / theirs.speed if is_done else None,
                }
            )
    return found


def _record(
    benchmark: Benchmark, records: dict[str, Any], sweeps: dict[str, Any], effort: Effort
) -> dict[str, Any]:
    headline = next(iter(records), None)
    ratios = [record["ratio_to_best_peer"] for record in records.values()]
    is_proven = bool(ratios) and None not in ratios
    return {
        "ratio_to_best_peer": records[headline]["ratio_to_best_peer"] if headline else None,
        "headline": headline,
        "smallest_ratio": min(ratios) if is_proven else None,
        "title": benchmark.title,
        "settings": benchmark.settings,
        "date": datetime.date.today().isoformat(),
        "is_quick": effort.is_quick,
        "rounds": effort.rounds,
        "machine": machine.describe(),
        "versions": _versions(records),
        "workloads": records,
        "sweeps": sweeps,
    }


def _versions(records: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for record in records.values():
        for kinds in record["finalists"].values():
            for finalist in kinds.values():
                found |= finalist["versions"]
    return found


def _parse(benchmark: Benchmark, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}")
    names = [workload.name for workload in benchmark.workloads]
    parser.add_argument("--json", action="store_true", help="print the record, not the tables")
    parser.add_argument("--quick", action="store_true", help="few cells, few steps")
    parser.add_argument(
        "--only", action="append", default=[], choices=[*names, "sweeps"], help="may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of the best cells")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--resume", action="store_true", help="go on with the newest run's cells")
    parser.add_argument("--peers", default=str(peers_python()), help="the peers' interpreter")
    parser.add_argument(
        "--out", help="folder of the results [default: benchmarks/results; quick: under the home]"
    )
    return parser.parse_args(arguments)
