"""What sharing a system prompt gains, and what its products allow: `python -m benchmarks.prefix`.

Our engine alone, on the `system` workload: with the prompt computed once per packed row, and with
every row computed in full. The arithmetic is the bare matrix products of both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.cells import OURS, Cell
from benchmarks.contest import Contest
from benchmarks.measure import Runner
from benchmarks.places import RESULTS, peers_python, state
from benchmarks.workers.common import Job
from benchmarks.workloads import SYSTEM
from tunefork.core.files import write_json

_CELL = Cell(OURS, "bf16", order="grouped")
_ROWS_AT_ONCE = 4  # of those computed in full: as many tokens at once as eight that share


def measure(rounds: int, counted: int) -> dict[str, Any]:
    """Measure both in turn and return the record."""
    folder = state() / "work" / f"prefix-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    runner = Runner(folder, peers_python())
    contest = Contest(SYSTEM, runner, learning_rate=2e-4)
    shared = contest.job(_CELL, counted)
    whole = replace(
        shared, shared=0, cell={**shared.cell, "shares": False, "rows_at_once": _ROWS_AT_ONCE}
    )
    speeds: dict[str, list[float]] = {"shared": [], "whole": []}
    limits: dict[str, list[float]] = {"shared": [], "whole": []}
    for turn in range(rounds):
        for name, job in (("shared", shared), ("whole", whole)):
            speeds[name].append(runner.run(_CELL, replace(job, round=turn)).speed)
            limits[name].append(runner.limit(_CELL, job))
    gain = median(speeds["shared"]) / median(speeds["whole"])
    allowed = median(limits["shared"]) / median(limits["whole"])
    return {
        "ratio_to_best_peer": None,  # see `sft`, workload `system`
        "gain": gain,
        "gain_allowed": allowed,
        "share_of_allowed": gain / allowed,
        "rows_per_second": {name: _rows(shared, median(found)) for name, found in speeds.items()},
        "tokens_per_second": speeds,
        "limit_tokens_per_second": limits,
        "rounds": rounds,
        "machine": machine.describe(),
        "date": datetime.date.today().isoformat(),
    }


def _rows(job: Job, tokens_per_second: float) -> float:
    from benchmarks.workers.common import Rows

    rows = Rows.load(job.rows)
    chosen = [row for step in job.steps[job.warm_up :] for row in step]
    return tokens_per_second / float(rows.lengths[chosen].mean())


def main() -> int:
    """Measure, write `results/prefix.json`, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix")
    parser.add_argument("--json", action="store_true", help="print the whole record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each run")
    options = parser.parse_args()
    record = measure(options.rounds, options.steps)
    write_json(RESULTS / "prefix.json", record)
    if options.json:
        print(json.dumps(record))
    else:
        print(
            f"gain {record['gain']:.2f} of {record['gain_allowed']:.2f} that the products allow "
            f"({record['share_of_allowed']:.0%})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
