"""Steps of GRPO against TRL's: `python -m benchmarks.grpo --json`.

A step draws answers to a few prompts, has them judged, and learns from them. Everyone gets the same
prompts, draws as many answers of exactly as many tokens at temperature 1, and trains the same LoRA.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.measure import quiet_environment
from benchmarks.model import get_model
from benchmarks.places import CHECKOUT, RESULTS, peers_python, work_folder
from benchmarks.workers.common import Job, Rows
from tunefork.core.files import write_json

_PROMPT_TOKENS = 100
_WARM_UP = 1  # steps that are not counted
_LEARNING_RATE = 1e-4
_CELLS: dict[str, list[dict[str, Any]]] = {  # how each is set up, the likeliest best first
    "ours_grpo": [{"dtype": "bf16"}],
    "trl_grpo": [
        {"dtype": "bf16", "is_checkpointed": False},
        {"dtype": "float32", "is_checkpointed": False},
        {"dtype": "bf16", "is_checkpointed": True, "answers_at_once": 8},
    ],
}
_USUAL = {
    "is_checkpointed": False,
    "is_packed": False,
    "is_compiled": False,
    "rows_at_once": 0,
    "answers_at_once": 0,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every cell and return the record."""
    folder = work_folder("grpo", is_resumed=False)
    folder.mkdir(parents=True, exist_ok=True)
    model = get_model(options.model)
    found: dict[str, list[dict[str, Any]]] = {}
    for worker, cells in _CELLS.items():
        found[worker] = []
        for cell in cells[: options.cells]:
            whole = {
                **_USUAL,
                **cell,
                "n_answers": options.answers,
                "max_tokens": options.tokens,
                "kl": options.kl,
            }
            steps = _WARM_UP + options.steps
            job = Job(
                model=str(model.folder),
                adapter=str(model.adapter),
                rows=str(_prompts(folder, model.vocabulary, steps * options.prompts)),
                steps=np.arange(steps * options.prompts).reshape(steps, -1).tolist(),
                warm_up=_WARM_UP,
                learning_rate=_LEARNING_RATE,
                cell=whole,
            )
            result = _start(worker, job, folder, Path(options.peers))
            found[worker].append({"cell": cell, **result})
            _say(worker, cell, result)
    return _record(options, found)


def _start(worker: str, job: Job, folder: Path, peers: Path) -> dict[str, Any]:
    path = folder / "job.json"
    write_json(path, asdict(job))
    is_peer = worker != "ours_grpo"
    paths = [CHECKOUT] if is_peer else [CHECKOUT, CHECKOUT / "src"]
    done = subprocess.run(
        [
            str(peers) if is_peer else sys.executable,
            "-m",
            f"benchmarks.workers.{worker}",
            str(path),
        ],
        cwd=folder,
        env={**quiet_environment(folder), "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        (folder / f"failed-{worker}.log").write_text(done.stderr, encoding="utf-8")
        return {"refused": (done.stderr.strip() or f"exit {done.returncode}").splitlines()[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    counted = answer["seconds"][_WARM_UP:]
    return {**answer, "seconds_per_step": median(counted)}


def _prompts(folder: Path, vocabulary: int, count: int) -> Path:
    path = folder / f"prompts-{count}.npz"
    if not path.is_file():
        ids = np.random.default_rng(0).integers(4, vocabulary, count * _PROMPT_TOKENS)
        offsets = np.arange(count + 1) * _PROMPT_TOKENS
        Rows(ids.astype(np.int32), offsets, np.full(count, _PROMPT_TOKENS)).save(path)
    return path


def _record(options: argparse.Namespace, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def best(worker: str, key: str) -> float | None:
        values = [each[key] for each in found.get(worker, []) if key in each]
        return min(values) if values else None

    seconds = {worker: best(worker, "seconds_per_step") for worker in found}
    peaks = {worker: best(worker, "peak_bytes") for worker in found}
    return {
        "ratio_to_best_peer": _ratio(seconds["trl_grpo"], seconds["ours_grpo"]),
        "memory_share": _ratio(peaks["ours_grpo"], peaks["trl_grpo"]),
        "seconds_per_step": seconds,
        "peak_bytes": peaks,
        "model": options.model,
        "prompts": options.prompts,
        "prompt_tokens": _PROMPT_TOKENS,
        "answers": options.answers,
        "answer_tokens": options.tokens,
        "kl": options.kl,
        "steps": options.steps,
        "cells": found,
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _say(worker: str, cell: dict[str, Any], result: dict[str, Any]) -> None:
    what = result.get("refused") or (
        f"{result['seconds_per_step']:.2f} s per step, {result['peak_bytes'] / 1e6:,.0f} MB"
    )
    print(f"{worker:10} {cell}: {what}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, write `results/grpo.json`, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpo")
    parser.add_argument("--json", action="store_true", help="print the whole record")
    parser.add_argument("--model", default="135m", help="see benchmarks/model.py")
    parser.add_argument("--prompts", type=int, default=2, help="of a step")
    parser.add_argument("--answers", type=int, default=8, help="drawn to each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--kl", type=float, default=0.04, help="cost of a nat; 0 needs no base")
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each cell")
    parser.add_argument("--cells", type=int, default=3, help="cells of each contestant")
    parser.add_argument("--peers", default=str(peers_python()), help="the peers' interpreter")
    parser.add_argument("--out", default=str(RESULTS), help="folder of the result")
    options = parser.parse_args()
    record = measure(options)
    write_json(Path(options.out) / "grpo.json", record)
    if options.json:
        print(json.dumps(record))
    else:
        print(
            f"{record['ratio_to_best_peer']:.1f} times TRL's speed, "
            f"{record['memory_share']:.0%} of its memory"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
