"""Time to quality: how soon do our defaults reach what TRL reaches? `python -m benchmarks.quality`.

TRL's `SFTTrainer` trains a LoRA on `tiny` for three epochs at each of five learning rates; the one
with the lowest held-out loss at its end is what has to be reached. Ours is `tunefork train` with
`auto`. Both see the same rows as tokens, hold the same rows out, and start from the same weights.
Reading data counts for neither. Loading the base, validations and the search for where to begin
count as our time, not as TRL's; rows mixed in against forgetting are our burden alone. TRL computes
in bf16, with LoRA of rank 16 on all linear layers, the rest as it is by default.

Seconds are those on the clock, or with `--clock cpu` those that the processor worked, which other
programs on the machine do not change: with one thread both are the same on a quiet machine.
Results: `benchmarks/results/quality.*`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.places import CHECKOUT, RESULTS, peers_python, publish, work_folder
from benchmarks.projects import CATGPT
from benchmarks.workers.common import Clock, clock_of
from tunefork.core.events import Event, SettingsChosen, Validated, no_sink
from tunefork.core.files import write_json, write_text
from tunefork.data import Items, TokenRows
from tunefork.evaluation.charts import curves_chart
from tunefork.workflow.prepare import prepare
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project

_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_EPOCHS = 3
_RANK = 16  # the default of TRL's command line
_WIDTH = 760  # pixels
_Point = tuple[float, float]  # seconds, held-out loss


def measure(projects: Sequence[Project], bench: Bench, out: Path) -> dict[str, Any]:
    """Return the record, and draw the curves; TRL's finished runs are not repeated."""
    found = {each.name: _project(each, bench, bench.work / each.name) for each in projects}
    for name, result in found.items():
        _draw(out / f"quality-{name}.svg", result)
    ratios = [result["ratio"] for result in found.values()]
    return {
        "ratio_to_best_peer": None if None in ratios else min(ratios),
        "clock": bench.clock,
        "projects": found,
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _project(project: Project, bench: Bench, work: Path) -> dict[str, Any]:
    prepared = prepare(project, no_sink)
    assert prepared.data.validation is not None, "examples hold rows out"
    _save(work / "rows.npz", Items.of(prepared.data.rows).rows)
    _save(work / "held-out.npz", Items.of(prepared.data.validation).rows)
    job = {
        "model": str(prepared.base.folder),
        "rows": str(work / "rows.npz"),
        "held_out": str(work / "held-out.npz"),
        "epochs": _EPOCHS,
        "rank": _RANK,
        "is_bf16": True,
        "clock": bench.clock,
    }
    peers = {f"{rate:g}": bench.peer({**job, "learning_rate": rate}, work) for rate in _RATES}
    best = min(peers, key=lambda rate: peers[rate][-1][1])
    seconds, target = peers[best][-1]
    ours = bench.ours(project, work)
    reached = next((at for at, loss in ours if loss <= target), None)
    _say(f"{project.name}: TRL {target:.4f} in {seconds:.1f} s; ours there after {reached} s")
    return {
        "ratio": None if reached is None else seconds / reached,
        "peer_learning_rate": best,
        "peer_loss": target,
        "peer_seconds": seconds,
        "our_seconds": reached,
        "our_best_loss": min(loss for _, loss in ours),
        "ours": ours,
        "peers": peers,
    }


def _save(path: Path, rows: TokenRows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, ids=rows.ids, weights=rows.weights, offsets=rows.offsets)


@dataclass(frozen=True)
class Bench:
    """Trains with either, and tells the held-out loss over time."""

    work: Path
    python: Path  # the peers' interpreter
    clock: Clock

    def peer(self, job: dict[str, Any], work: Path) -> list[_Point]:
        """Train with TRL, unless it was."""
        kept = work / f"trl-{job['learning_rate']:g}.json"
        if not kept.is_file():
            write_json(work / "job.json", job)
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1"}
            command = [str(self.python), "-m", "benchmarks.workers.quality", str(work / "job.json")]
            done = subprocess.run(
                command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            write_json(kept, json.loads(done.stdout.splitlines()[-1]))
        points = json.loads(kept.read_text(encoding="utf-8"))["points"]
        _say(f"TRL at {job['learning_rate']:g}: {points[-1][1]:.4f} after {points[-1][0]:.1f} s")
        return [(seconds, loss) for seconds, loss in points]

    def ours(self, project: Project, work: Path) -> list[_Point]:
        """Train with the defaults; our validations count."""
        now = clock_of(self.clock)
        points: list[_Point] = []
        start = 0.0

        def sink(event: Event) -> None:
            nonlocal start
            if isinstance(event, SettingsChosen):
                start = now()
            elif isinstance(event, Validated):
                points.append((now() - start, event.loss))

        out = work / f"ours-{datetime.datetime.now():%H%M%S}"
        train_project(project, out=out, is_registered=False, sink=sink)
        return points


def _draw(path: Path, result: dict[str, Any]) -> None:
    """Draw the curves over whole seconds; a page's style sheet is not there, so bring colours."""
    curves = {"tunefork": result["ours"]}
    curves |= {f"TRL at {rate}": points for rate, points in result["peers"].items()}
    chart = curves_chart(
        {name: [(round(at), loss) for at, loss in points] for name, points in curves.items()},
        "tunefork",
        _WIDTH,
        "second",
    )
    style = (
        "<style>text{font:13px sans-serif;fill:#555}.grid{stroke:#ddd}.axis{stroke:#777}"
        "polyline{fill:none;stroke:#999}.best polyline{stroke:#0f6e78;stroke-width:2.5}"
        "circle{fill:#999}.best circle{fill:#0f6e78}</style>"
    )
    text = str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    write_text(path, text.replace("</title>", f"</title>{style}", 1) + "\n")


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    names = ("data", "TRL's best rate", "its loss", "after", "ours there after", "times as fast")
    lines = ["# Time to quality", "", *(__doc__ or "").split("\n")[2:-1], ""]
    lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, found in record["projects"].items():
        is_there = found["ratio"] is not None
        cells = (
            name,
            found["peer_learning_rate"],
            f"{found['peer_loss']:.4f}",
            f"{found['peer_seconds']:.1f} s",
            f"{found['our_seconds']:.1f} s" if is_there else "never",
            f"{found['ratio']:.2f}" if is_there else "none",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Seconds: {record['clock']} time.", ""]
    lines += [*(f"![{name}](quality-{name}.svg)" for name in record["projects"])]
    return "\n".join([*lines, "", f"Machine: {json.dumps(record['machine'])}", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument(
        "--project", type=Path, action="append", default=[], help="another spec to measure"
    )
    parser.add_argument("--resume", action="store_true", help="keep TRL's finished runs")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what seconds are")
    parser.add_argument("--peers", type=Path, default=peers_python(), help="their interpreter")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    projects = [load_project(path) for path in (CATGPT, *options.project)]
    work = work_folder("quality", is_resumed=options.resume)
    record = measure(projects, Bench(work, options.peers, options.clock), options.out)
    publish("quality", record, markdown(record), options.out, as_json=options.json)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
