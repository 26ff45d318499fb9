"""What `plan` predicts against what training takes: `python -m benchmarks.plan --json`.

Each strategy on three sizes, with the settings that are derived for rows of the lengths of customer
support. Peak memory is predicted by arithmetic; time from a probe of a few steps, against a longer
training. Every measurement runs in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.model import get_model
from benchmarks.places import RESULTS
from benchmarks.report import table
from tunefork.core.files import write_json, write_text
from tunefork.data import TokenRows
from tunefork.models import find_base
from tunefork.training import TrainingData
from tunefork.workflow.derive import Derived, derive
from tunefork.workflow.plan import CHOICES
from tunefork.workflow.spec import DataSpec, Spec
from tunefork.workflow.trial import Trial, measure

SIZES = ("tiny", "50m", "135m")
_ROWS = 400
_LONGER = {"tiny": 25, "50m": 9, "135m": 7}  # steps of the training that is timed
_LENGTHS = Path(__file__).parent / "lengths.json"


def make_rows(vocabulary: int, n_rows: int = _ROWS) -> TokenRows:
    """Return rows of random tokens, as long as those of customer support."""
    lengths = json.loads(_LENGTHS.read_text(encoding="utf-8"))["support"][:n_rows]
    random = np.random.default_rng(0)
    totals = [prompt + answer for prompt, answer in lengths]
    return TokenRows(
        ids=random.integers(4, vocabulary, sum(totals)).astype(np.int32),
        weights=np.concatenate(
            [(np.arange(sum(pair)) >= pair[0]).astype(np.float32) for pair in lengths]
        ),
        offsets=np.concatenate([[0], np.cumsum(totals)]).astype(np.int64),
    )


def measure_cell(size: str, name: str, *, times: bool) -> dict[str, Any]:
    """Return what is predicted and what is measured for one strategy on one size."""
    model = get_model(size)
    base = find_base(size if size == "tiny" else str(model.folder))
    data = TrainingData(make_rows(model.vocabulary))
    chosen = next(chosen for chosen in CHOICES if chosen.name == name)
    derived = derive(Spec(data=DataSpec(train=""), strategy=chosen), base, data)
    probe = measure(base, derived.chosen, derived.settings, data)
    longer = _train(derived, base, data, size) if times and not probe.refused else None
    return _cell(size, derived, probe, longer)


def _train(derived: Derived, base: Any, data: TrainingData, size: str) -> Trial:
    together = data.together().rows
    many = replace(data, rows=together.select(np.arange(len(together)).repeat(3)))
    return measure(base, derived.chosen, derived.settings, many, steps=_LONGER[size])


def _cell(size: str, derived: Derived, probe: Trial, longer: Trial | None) -> dict[str, Any]:
    predicted = derived.memory.total
    found: dict[str, Any] = {
        "size": size,
        "strategy": derived.chosen.name,
        "micro_tokens": derived.settings.micro_tokens,
        "trainable_parameters": derived.trainable.parameters,
        "predicted_bytes": predicted,
        "refused": probe.refused,
    }
    if probe.refused:
        return found
    peak = max(probe.peak_bytes, longer.peak_bytes if longer else 0)
    found |= {"peak_bytes": peak, "memory_error": predicted / peak - 1}
    found |= {"tokens_per_second": probe.tokens_per_second}
    if longer is not None and not longer.refused:
        seconds = longer.tokens / probe.tokens_per_second
        found |= {
            "seconds": longer.seconds,
            "predicted_seconds": seconds,
            "time_error": seconds / longer.seconds - 1,
        }
    return found


def _record(cells: list[dict[str, Any]]) -> dict[str, Any]:
    def largest(key: str) -> float | None:
        found = [abs(cell[key]) for cell in cells if key in cell]
        return max(found) if found else None

    return {
        "ratio_to_best_peer": None,  # nobody else predicts it
        "largest_memory_error": largest("memory_error"),
        "largest_time_error": largest("time_error"),
        "median_memory_error": median(abs(c["memory_error"]) for c in cells if "memory_error" in c),
        "rows": _ROWS,
        "cells": cells,
        "machine": machine.describe(),
        "date": datetime.date.today().isoformat(),
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    rows = [
        [
            cell["size"],
            cell["strategy"],
            f"{cell['predicted_bytes'] / 1e6:,.0f}",
            cell["refused"] or f"{cell['peak_bytes'] / 1e6:,.0f}",
            f"{cell['memory_error']:+.1%}" if "memory_error" in cell else "",
            f"{cell['predicted_seconds']:.1f}" if "seconds" in cell else "",
            f"{cell['seconds']:.1f}" if "seconds" in cell else "",
            f"{cell['time_error']:+.1%}" if "seconds" in cell else "",
        ]
        for cell in record["cells"]
    ]
    head = ["size", "strategy", "predicted MB", "peak MB", "off by", "predicted s", "s", "off by"]
    lines = [
        "# What `plan` predicts",
        "",
        f"{record['machine']['processor']}, {record['machine']['threads']} threads; "
        f"{record['rows']} rows of the lengths of customer support, the settings that are derived "
        "for them. Memory by arithmetic, time from a probe of a few steps against a longer "
        f"training. Measured {record['date']}.",
        "",
        *table(head, rows),
        "",
    ]
    return "\n".join(lines)


def _earlier(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cells of an earlier record, by size and strategy."""
    if not path.is_file():
        return {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {(cell["size"], cell["strategy"]): cell for cell in cells}


def main() -> int:
    """Measure, write `results/plan.{json,md}`, and print them; other cells stay as they were."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan")
    parser.add_argument("--json", action="store_true", help="print the whole record")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    names = [chosen.name for chosen in CHOICES]
    parser.add_argument("--strategies", nargs="+", default=names, choices=names)
    parser.add_argument("--no-times", action="store_true", help="memory alone")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the results")
    options = parser.parse_args()
    folder = Path(options.out)
    cells = _earlier(folder / "plan.json")
    for size in options.sizes:
        for name in options.strategies:
            cells[size, name] = measure_cell(size, name, times=not options.no_times)
            print(json.dumps(cells[size, name]), file=sys.stderr, flush=True)
    record = _record([cells[at] for at in product(SIZES, names) if at in cells])
    write_json(folder / "plan.json", record)
    write_text(folder / "plan.md", markdown(record))
    print(json.dumps(record) if options.json else markdown(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
