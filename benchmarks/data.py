"""What preparing rows costs as they grow to a million: `python -m benchmarks.data --json`.

Each size is prepared in a process of its own, then once more to see what keeping the rows saves.
The rows are generated: questions and answers of common words, 60 to 130 tokens with `tiny`. For
the largest size the order of one epoch is planned as well. Results: `benchmarks/results/data.*`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.places import RESULTS
from tunefork.core.memory import peak_resident_bytes, resident_bytes

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_COMPARED = 10_000  # smaller sizes are mostly start-up
_WORDS_FILE = Path(__file__).parents[1] / "src/tunefork/evaluation/general/replay.jsonl"
_QUESTION, _ANSWER = (8, 20), (25, 65)  # words
_LINEAR = 1.25  # of seconds per row, the largest against 10,000


def main(arguments: list[str] | None = None) -> int:
    """Measure all sizes; print the record as JSON, or as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.add_argument("--largest", type=int, default=_SIZES[-1], help="rows at most")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(_measure(given.measure[0], Path(given.measure[1]))))
        return 0
    record = _record([size for size in _SIZES if size <= given.largest])
    table = _markdown(record)
    if given.largest == _SIZES[-1]:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "data.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        (RESULTS / "data.md").write_text(table, encoding="utf-8")
    print(json.dumps(record, indent=2) if given.json else table)
    return 0 if record["is_linear"] else 1


def _record(sizes: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.jsonl"
            write_rows(path, size)
            first, again = _in_process("prepare", path), _in_process("prepare", path)
            found[str(size)] = {
                **first,
                "file_bytes": path.stat().st_size,
                "rows_per_second": round(size / first["seconds"], 1),
                "again_seconds": again["seconds"],
                "again_peak_bytes": again["peak_bytes"],
            }
            assert again["data_hash"] == first["data_hash"], "kept rows are the same rows"
            plan = _in_process("plan", path) if size == sizes[-1] else None
        _say(f"{size:,} rows: {found[str(size)]['rows_per_second']:,.0f} rows/s")
    per_row = {size: found[str(size)]["seconds"] / size for size in sizes}
    growth = per_row[sizes[-1]] / per_row[min(_COMPARED, sizes[-1])]
    cpu = {size: found[str(size)]["cpu_seconds"] / size for size in sizes}
    cpu_growth = cpu[sizes[-1]] / cpu[min(_COMPARED, sizes[-1])]
    return {
        "ratio_to_best_peer": None,  # no peer prepares rows, masks and checks in one command
        "seconds_per_row_growth": round(growth, 3),
        "cpu_seconds_per_row_growth": round(cpu_growth, 3),
        "is_linear": min(growth, cpu_growth) <= _LINEAR,
        "sizes": found,
        "plan": plan,
        "machine": describe(),
    }


def write_rows(path: Path, count: int, seed: int = 0) -> None:
    """Write rows of common words, the same ones for the same seed."""
    words = [
        word
        for line in _WORDS_FILE.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
        for word in message["content"].split()
    ]
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            question = " ".join(chance.choices(words, k=chance.randint(*_QUESTION)))
            answer = " ".join(chance.choices(words, k=chance.randint(*_ANSWER)))
            file.write(json.dumps({"user": f"{question} {number}?", "assistant": answer}) + "\n")


def _in_process(what: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.data", "--measure", what, str(path)]
    environment = {**os.environ, "TUNEFORK_HOME": str(path.parent / "home")}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _measure(what: str, path: Path) -> dict[str, Any]:
    """Measure one thing in this process."""
    import datetime

    from tunefork.core.events import no_sink
    from tunefork.training import Plan, TrainSettings
    from tunefork.workflow.prepare import prepare
    from tunefork.workflow.spec import DataSpec, Project, Spec

    spec = Spec(data=DataSpec(train=path.name), date=datetime.date(2024, 1, 1))
    project = Project(spec=spec, folder=path.parent, name="rows")
    before_bytes = resident_bytes()
    start, cpu_start = time.perf_counter(), time.process_time()
    prepared = prepare(project, no_sink)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    if what == "prepare":
        peak_bytes = _peak_bytes() - before_bytes  # before every token is read to be hashed
        rows = prepared.data.rows
        return {
            "rows": len(rows),
            "tokens": rows.n_tokens,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),  # of all threads; other programs do not count
            "peak_bytes": peak_bytes,
            "data_hash": prepared.data_hash(),
        }
    start = time.perf_counter()
    settings = TrainSettings(epochs=1, learning_rate=1e-4, batch_tokens=8192, micro_tokens=2048)
    plan = Plan(prepared.data, settings)
    building = time.perf_counter() - start
    start = time.perf_counter()
    n_packed = n_rows = 0
    for step in range(plan.steps):
        for chosen in plan.micro_batches(step):
            n_packed += 1
            n_rows += len(chosen)
    return {
        "rows": n_rows,
        "steps": plan.steps,
        "packed_rows": n_packed,
        "build_seconds": round(building, 3),
        "epoch_seconds": round(time.perf_counter() - start, 3),
        "peak_bytes": _peak_bytes() - before_bytes,
    }


def _peak_bytes() -> int:
    # Linux counts what a process held before it became this program among `ru_maxrss`.
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_resident_bytes()
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _markdown(record: dict[str, Any]) -> str:
    lines = [
        "# Preparing rows",
        "",
        "| rows | tokens | seconds | CPU | rows/s | peak memory | second run | its peak |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {int(size):,} | {row['tokens']:,} | {row['seconds']:.1f} "
        f"| {row['cpu_seconds']:.1f} "
        f"| {row['rows_per_second']:,.0f} | {row['peak_bytes'] / 1e6:,.0f} MB "
        f"| {row['again_seconds']:.2f} s | {row['again_peak_bytes'] / 1e6:,.0f} MB |"
        for size, row in record["sizes"].items()
    ]
    growth, cpu_growth = record["seconds_per_row_growth"], record["cpu_seconds_per_row_growth"]
    plan = record["plan"]
    return "\n".join(
        [
            *lines,
            "",
            f"Seconds per row, the largest against {_COMPARED:,} rows: {growth:.2f} "
            f"(CPU seconds: {cpu_growth:.2f}).",
            "Peak memory is beyond what was resident before; files that are mapped count.",
            "",
            f"The order of an epoch of {plan['rows']:,} rows: planned in "
            f"{plan['build_seconds']:.2f} s, cut into {plan['packed_rows']:,} packed rows in "
            f"{plan['epoch_seconds']:.1f} s, {plan['peak_bytes'] / 1e6:,.0f} MB at most.",
            "",
            f"Machine: {json.dumps(record['machine'])}",
            "",
        ]
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
