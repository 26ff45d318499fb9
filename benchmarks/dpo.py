"""Preference learning against TRL's `DPOTrainer`: `python -m benchmarks.dpo --json`.

Everyone learns the same pairs in the same steps from the same weights. Ours is measured four times,
with and without its two savings, so that the gain is told apart: the prompt of two answers computed
once, what the base makes of them computed once, and the engine.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cells import Cell, Dtype
from benchmarks.compare import fastest, leanest, same_work
from benchmarks.measure import DISTURBED, Outcome, Runner
from benchmarks.model import get_model
from benchmarks.places import RESULTS, peers_python, publish, work_folder
from benchmarks.report import table
from benchmarks.workers.common import Job
from benchmarks.workloads import PAIRS, PAIRS_WARM_UP, Workload, make_pair_steps

_OURS, _TRL = "ours_dpo", "trl_dpo"
_BETA, _RATE = 0.1, 2e-4


@dataclass(frozen=True)
class Setup:
    """One cell: who, and how."""

    what: str
    cell: Cell
    reference: str = "kept"  # computed before the first step, or in `each` step
    shares: bool = True  # ours: a prompt stands once before both answers

    def job(self, job: Job) -> Job:
        """Return what its worker is told."""
        own = {"reference": self.reference, "shares": self.shares, "beta": _BETA}
        return replace(job, cell={**self.cell.settings(), **own})


def setups(allocator: str) -> list[Setup]:
    """Return all cells, what decides first."""

    def ours(**changes: Any) -> Cell:
        return Cell(_OURS, "bf16", order="grouped", allocator=allocator, **changes)

    def trl(dtype: Dtype, **changes: Any) -> Cell:
        return Cell(_TRL, dtype, order="grouped", **{"allocator": allocator, **changes})

    return [
        Setup("both savings", ours()),
        Setup("references kept", trl("bf16")),
        Setup("references kept", trl("amp")),
        Setup("a prompt for each answer", ours(), shares=False),
        Setup("references in each step", ours(), reference="each"),
        Setup("neither saving", ours(), reference="each", shares=False),
        Setup("both savings, layers recomputed", ours(is_checkpointed=True)),
        Setup("references kept, layers recomputed", trl("bf16", is_checkpointed=True)),
        Setup("references kept, two pairs at once", trl("bf16", rows_at_once=2)),
        Setup("references kept, without padding", trl("bf16", is_packed=True)),
        Setup("references in each step", trl("bf16"), reference="each"),
        Setup("references kept", trl("bf16", allocator="glibc")),
    ]


def measure(
    runner: Runner, workload: Workload, counted: int, minutes: float
) -> dict[Setup, Outcome]:
    """Measure every cell that can begin in time; finished ones are read."""
    model = get_model(workload.model)
    steps = make_pair_steps(workload, model.vocabulary, counted)
    path = runner.folder / f"rows-{workload.rows_per_step}x{counted}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        steps.rows.save(path)
    job = Job(
        model=str(model.folder),
        adapter=str(model.adapter),
        rows=str(path),
        steps=steps.plain,
        warm_up=steps.warm_up,
        learning_rate=_RATE,
        cell={},
    )
    allocator = next(iter(machine.allocators()), "glibc")
    found: dict[Setup, Outcome] = {}
    begun = time.monotonic()
    for setup in setups(allocator):
        own = setup.job(job)
        if not runner.is_kept(setup.cell, own) and time.monotonic() - begun > 60 * minutes:
            continue
        found[setup] = _judged(runner.run(setup.cell, own), found)
    return found


def _judged(outcome: Outcome, found: Mapping[Setup, Outcome]) -> Outcome:
    """Return an outcome with what shows whether it did the work of our first cell."""
    first = next(iter(found.values()), None)
    if first is None or first.refused or outcome.refused:
        return outcome
    return replace(outcome, work=same_work(first, outcome))


def record_of(
    found: Mapping[Setup, Outcome], counted: int, pairs: int = PAIRS.rows_per_step
) -> dict[str, Any]:
    """Return the whole record; its first key is our speed over TRL's fastest."""
    ours = [each for each in found.values() if each.cell.contestant == _OURS]
    theirs = [each for each in found.values() if each.cell.contestant == _TRL]
    mine, peer = fastest(ours), fastest(theirs)
    small, peer_small = leanest(ours), leanest(theirs)
    is_compared = mine is not None and peer is not None
    busy = [_processor_seconds(each) for each in (peer, mine) if each is not None]
    lean = small.peak / peer_small.peak if small and peer_small else None
    return {
        "ratio_to_best_peer": mine.speed / peer.speed if mine and peer else None,
        "processor_ratio": busy[0] / busy[1] if is_compared else None,
        "memory": {"leanest_share": lean, "fastest_share": mine.peak / peer.peak}
        if mine and peer
        else None,
        "gain": _gain(found, peer) if is_compared else None,
        "cells": [_cell_record(setup, outcome) for setup, outcome in found.items()],
        "left_out": [
            {"who": setup.cell.contestant, "what": setup.what, "name": setup.cell.name}
            for setup in setups(next(iter(machine.allocators()), "glibc"))
            if setup not in found
        ],
        "steps": counted,
        "pairs_per_step": pairs,
        "machine": machine.describe(),
        "date": datetime.date.today().isoformat(),
    }


def _gain(found: Mapping[Setup, Outcome], peer: Outcome | None) -> dict[str, float]:
    """Return what each part multiplies the speed by, other parts as in our fastest cell."""
    speeds = {
        (setup.reference, setup.shares): outcome.speed
        for setup, outcome in found.items()
        if setup.cell.contestant == _OURS and not setup.cell.is_checkpointed and not outcome.refused
    }
    full = speeds.get(("kept", True))
    if full is None:
        return {}
    gains = {}
    if ("kept", False) in speeds:
        gains["shared prompt"] = full / speeds["kept", False]
        if peer is not None:
            gains["engine, beside TRL's fastest"] = speeds["kept", False] / peer.speed
    if ("each", True) in speeds:
        gains["kept references"] = full / speeds["each", True]
    return gains


def _processor_seconds(outcome: Outcome) -> float:
    """Return the time of the processors per pair: what other programs do hardly changes it."""
    result = outcome.result
    counted = len(result["seconds"]) - PAIRS_WARM_UP
    seconds = sum(result["processor_seconds"][-counted:])
    pairs = result["rows_per_second"] / 2 * sum(result["seconds"][-counted:])
    return float(seconds / pairs)


def _cell_record(setup: Setup, outcome: Outcome) -> dict[str, Any]:
    record = {
        "who": "tunefork" if setup.cell.contestant == _OURS else "TRL",
        "what": setup.what,
        "name": setup.cell.name,
        "settings": asdict(setup),
    }
    if outcome.refused:
        return record | {"refused": outcome.refused}
    result = outcome.result
    pairs = result["rows_per_second"] / 2
    kept = ("tokens_per_second", "peak_bytes", "losses", "gradient_norms", "other_cores", "moved")
    also = {"reference_s": result["reference_s"]} if result.get("reference_s") else {}
    return (
        record
        | {"pairs_per_second": pairs, "processor_seconds_per_pair": _processor_seconds(outcome)}
        | {**{key: result[key] for key in kept}, **also}
        | {"work": outcome.work, "versions": result["versions"]}
    )


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record as a page."""
    lines = ["# Preference learning (DPO) on a CPU", ""]
    ratio, memory = record["ratio_to_best_peer"], record["memory"]
    if ratio is None:
        lines.append("No ratio: not both were measured doing the same work.")
    else:
        lean = memory["leanest_share"]
        lines.append(
            f"**{ratio:.2f} times** the pairs/s of TRL's fastest cell "
            f"({record['processor_ratio']:.2f} by the processors' time); "
            f"memory: fastest to fastest {memory['fastest_share']:.0%}"
            + (f", leanest to leanest {lean:.0%}." if lean else ".")
        )
    for name, gain in (record["gain"] or {}).items():
        lines.append(f"- {name}: {gain:.2f} times")
    rows = [
        (
            cell["who"],
            cell["what"],
            cell["name"],
            "refused" if "refused" in cell else f"{cell['pairs_per_second']:.2f}",
            "" if "refused" in cell else f"{cell['processor_seconds_per_pair']:.2f}",
            "" if "refused" in cell else f"{cell['peak_bytes'] / 1e6:,.0f}",
            cell.get("refused") or f"{cell['losses'][-1]:.4f}",
            "" if "refused" in cell else _remark(cell),
        )
        for cell in record["cells"]
    ]
    header = ("who", "what", "cell", "pairs/s", "processor s/pair", "peak MB", "last loss", "work")
    lines += ["", *table(header, rows)]
    if record["left_out"]:
        lines += ["", f"Not measured: {len(record['left_out'])} cells; `--resume` goes on."]
    what = record["machine"]
    lines += ["", f"{record['date']}, {what['processor']}, {what['cores']} cores."]
    return "\n".join(lines) + "\n"


def _remark(cell: Mapping[str, Any]) -> str:
    work = cell["work"]
    said = "" if not work else ("same" if work["is_same"] else "another, not counted")
    if work:
        said += f" (loss {work['loss_gap']:.4f}, gradient {work['norm_gap']:.1%} apart)"
    if cell["other_cores"] > DISTURBED:
        said += f"; disturbed: other programs used {cell['other_cores']:.1f} cores"
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write `results/dpo.*`, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dpo")
    parser.add_argument("--json", action="store_true", help="print the record, not the table")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each cell")
    parser.add_argument("--pairs", type=int, default=PAIRS.rows_per_step, help="in a step")
    parser.add_argument("--minutes", type=float, default=60, help="begin no cell after as many")
    parser.add_argument("--attempts", type=int, default=1, help="of a cell that was disturbed")
    parser.add_argument("--resume", action="store_true", help="go on with the newest run's cells")
    parser.add_argument("--peers", default=str(peers_python()), help="the peers' interpreter")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the results")
    options = parser.parse_args(arguments)
    folder = work_folder("dpo", is_resumed=options.resume)
    runner = Runner(folder, Path(options.peers), options.attempts)
    workload = replace(PAIRS, rows_per_step=options.pairs)
    found = measure(runner, workload, options.steps, options.minutes)
    record = record_of(found, options.steps, options.pairs)
    publish("dpo", record, markdown(record), Path(options.out), as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
