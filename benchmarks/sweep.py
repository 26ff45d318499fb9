"""An eight-way sweep beside eight full runs: `python -m benchmarks.sweep`.

CatGPT on `tiny`: four learning rates times two ranks. `tunefork sweep` names a winner by successive
halving; `tunefork train` trains each candidate to its end, in a process of its own. Compared are
the time that the processor worked, start of each process included, and the winners: with one thread
that is the time on the clock of a quiet machine, and other programs do not change it. Results:
`benchmarks/results/sweep.*`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.places import RESULTS, publish, work_folder
from benchmarks.projects import CATGPT, call, standing_alone
from tunefork.core.files import read_json, write_json
from tunefork.workflow.spec import Spec, load_project
from tunefork.workflow.sweep_grid import expand, parse_axes

_OVER = ("learning_rate=3e-4,1e-3,2.5e-3,6e-3", "rank=4,16")
_BATCH = 1536  # tokens
_MOST_TIME = 0.5  # of the full runs'


def measure(spec: Spec, over: Sequence[str], work: Path) -> dict[str, Any]:
    """Return the record; what is found in `work` is not measured again."""
    options = tuple(word for axis in over for word in ("--over", axis))
    swept = _timed("sweep", spec, work / "sweep", options)
    found = read_json(work / "sweep" / "run" / "sweep.json")
    rows = {row["name"]: row for row in found["candidates"]}
    full = {}
    for number, point in enumerate(expand(spec, parse_axes(over))):
        seconds = _timed("train", point.spec, work / f"full-{number}")
        result = read_json(work / f"full-{number}" / "run" / "result.json")
        full[point.name] = {
            "seconds": seconds,
            "validation_loss": result["validation_loss"],
            "steps": result["steps"],
            "sweep_loss": rows[point.name]["validation_loss"],
            "sweep_steps": rows[point.name]["steps"],
        }
    winner = min(full, key=lambda name: full[name]["validation_loss"])
    in_all = sum(row["seconds"] for row in full.values())
    return {
        "ratio_to_best_peer": None,  # beside ourselves
        "share_of_time": swept / in_all,
        "is_within_bound": swept / in_all <= _MOST_TIME,
        "is_same_winner": found["winner"] == winner,
        "sweep": {"seconds": swept, "winner": found["winner"], "loss": found["validation_loss"]},
        "full": {"seconds": in_all, "winner": winner, "candidates": full},
        "over": list(over),
        "epochs": spec.training.epochs,
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _timed(command: str, spec: Spec, folder: Path, options: tuple[str, ...] = ()) -> float:
    """Run a command, unless it was, and return its seconds; one that was cut off begins anew."""
    kept = folder / "seconds.json"
    if not kept.is_file():
        shutil.rmtree(folder / "run", ignore_errors=True)
        start = _worked()
        call(command, spec, folder, folder / "home", options)
        write_json(kept, {"seconds": _worked() - start})
        print(f"{folder.name}: {read_json(kept)['seconds']:.1f} s", file=sys.stderr, flush=True)
    return float(read_json(kept)["seconds"])


def _worked() -> float:
    """Return the processor seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    sweep, full = record["sweep"], record["full"]
    lines = [
        "# Eight-way sweep",
        "",
        f"CatGPT on `tiny`, {' and '.join(f'`{axis}`' for axis in record['over'])}, "
        f"{record['epochs']} epochs. Processor time of the sweep: {sweep['seconds']:.0f} s, "
        f"of the eight runs: {full['seconds']:.0f} s; **{record['share_of_time']:.2f} of theirs.** "
        f"Winners: {sweep['winner']} (sweep), {full['winner']} (full runs). Threads: "
        f"{record['machine']['omp_num_threads']} (`OMP_NUM_THREADS`).",
        "",
        "| candidate | full run: held-out loss | steps | seconds | sweep: loss | steps |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in sorted(
        full["candidates"].items(), key=lambda item: float(item[1]["validation_loss"])
    ):
        lines.append(
            f"| {name} | {row['validation_loss']:.4f} | {row['steps']} | {row['seconds']:.1f} | "
            f"{row['sweep_loss']:.4f} | {row['sweep_steps']} |"
        )
    return "\n".join([*lines, "", f"Machine: {json.dumps(record['machine'])}", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--epochs", type=int, default=5, help="of each candidate")
    parser.add_argument("--resume", action="store_true", help="go on with the newest measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    training = {"epochs": options.epochs, "batch_tokens": _BATCH}
    spec = standing_alone(load_project(CATGPT), training=training)
    record = measure(spec, _OVER, work_folder("sweep", is_resumed=options.resume))
    publish("sweep", record, markdown(record), options.out, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
