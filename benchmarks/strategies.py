"""What each strategy makes of the same data from its defaults: `python -m benchmarks.strategies`.

Each trains `tiny` in a process of its own by `tunefork run`, with nothing set but its name, on the
data of each project: CatGPT, and any other whose spec is given with `--project`. The gate's own
measures are compared: golden questions, held-out loss, forgetting; and time, memory and file size.
Results: `benchmarks/results/strategies.*`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.places import RESULTS, publish, work_folder
from benchmarks.projects import CATGPT, call, standing_alone
from tunefork.core.files import read_json
from tunefork.core.units import bytes_text, count_text, duration_text
from tunefork.workflow.spec import Project, load_project

_STRATEGIES = ("lora", "qlora", "prefix", "bottleneck", "full")


def measure(projects: Sequence[Project], work: Path) -> dict[str, Any]:
    """Return the record; what is found in `work` is not measured again."""
    found = {
        project.name: {name: _run(project, name, work) for name in _STRATEGIES}
        for project in projects
    }
    return {
        "ratio_to_best_peer": None,  # no peer offers all of them
        "prefix_behind_lora": {
            name: scores["lora"]["score"] - scores["prefix"]["score"]
            for name, scores in found.items()
        },
        "projects": found,
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _run(project: Project, strategy: str, work: Path) -> dict[str, Any]:
    folder = work / project.name / strategy
    if not (folder / "run" / "evaluation.json").is_file():
        call("run", standing_alone(project, strategy=strategy), folder, work / "home")
    run = folder / "run"
    found = _figures(read_json(run / "evaluation.json"), read_json(run / "result.json"))
    _say(f"{project.name}: {strategy} {found['score']:.1%} in {found['train_seconds']:.0f} s")
    return found


def _figures(measured: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    return {
        "verdict": measured["verdict"],
        "base_score": measured["scores"]["base"]["score"],
        **measured["scores"]["tuned"],
        "gain": measured["gain"],
        "forgetting": measured["forgetting"],
        "base_validation_loss": trained["base_validation_loss"],
        "validation_loss": trained["validation_loss"],
        "steps": trained["steps"],
        "train_seconds": trained["seconds"],
        "peak_bytes": trained["peak_bytes"],
        "trainable_parameters": trained["trainable_parameters"],
        "file_bytes": trained["model_bytes"],
        "settings": {row["key"]: row["value"] for row in trained["settings"]},
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    lines = [
        "# Five strategies from their defaults",
        "",
        "`tiny`, one run each, nothing set but the strategy. Intervals: 95 %. Threads: "
        f"{record['machine']['omp_num_threads']} (`OMP_NUM_THREADS`).",
    ]
    for name, found in record["projects"].items():
        behind = record["prefix_behind_lora"][name]
        lines += ["", f"## {name}", "", *_table(found), ""]
        lines.append(f"Prefix is {100 * behind:.1f} points behind LoRA on the golden questions.")
    return "\n".join([*lines, "", f"Machine: {json.dumps(record['machine'])}", ""])


def _table(found: dict[str, Any]) -> list[str]:
    names = ["strategy", "golden questions", "gain", "forgetting", "held-out loss", "trained"]
    names += ["learning rate", "steps", "training", "memory", "file", "verdict"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for strategy, row in found.items():
        cells = (
            strategy,
            f"{row['score']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
            f"{100 * row['gain']:+.1f} points",
            f"{100 * row['forgetting']:.1f} points",
            f"{row['base_validation_loss']:.3f} → {row['validation_loss']:.3f}",
            count_text(row["trainable_parameters"]),
            row["settings"]["learning_rate"],
            str(row["steps"]),
            duration_text(row["train_seconds"]),
            bytes_text(row["peak_bytes"]),
            bytes_text(row["file_bytes"]),
            row["verdict"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strategies", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument(
        "--project", type=Path, action="append", default=[], help="another spec to measure"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the newest measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    projects = [load_project(path) for path in (CATGPT, *options.project)]
    record = measure(projects, work_folder("strategies", is_resumed=options.resume))
    publish("strategies", record, markdown(record), options.out, as_json=options.json)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
