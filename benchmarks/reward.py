"""Can `tiny` tell which answer is better? `python -m benchmarks.reward DATA --json`.

DATA holds `bitext_customer_support` and `hh_rlhf_harmless_test`. Two kinds of pairs:

- **support**: how the reply to a customer's question begins, its first sentence, against how the
  reply to a question of another intent begins. Each is the better one once and about as often the
  worse one, so nothing but the question tells which it is. A fifth of the questions, and all
  replies to them, are held out.
- **harmless**: real transcripts with the answer that a person preferred; the run holds a tenth out.

Each is one `tunefork run` with `objective: reward`, tuned in full. Results:
`benchmarks/results/reward.*`.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.places import CHECKOUT, RESULTS, publish, work_folder
from tunefork.core.files import read_json, write_json, write_text
from tunefork.core.units import duration_text

SUPPORT = "bitext_customer_support/Bitext_Sample_Customer_Support_Training_Dataset__3.5MB.csv"
_HARMLESS = "hh_rlhf_harmless_test/harmless-base_test.jsonl"
_TRAINED, _HELD_OUT = 1600, 400
_TRAINING = {"batch_tokens": 2048, "learning_rate": 5e-4}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_VERDICTS = (0, 1)  # exit codes of a run that came to a verdict

Pair = dict[str, str]


def support_pairs(path: Path, seed: int = 0) -> tuple[list[Pair], list[Pair]]:
    """Return pairs to train on and pairs to judge by, which share no question and no reply."""
    random = np.random.default_rng(seed)
    training, held_out = support_rows(path, random)
    return _paired(training, random), _paired(held_out, random)


def support_rows(
    path: Path, random: np.random.Generator
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return questions of customers with replies and intents: to train on, and held out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    order = random.permutation(len(rows))[: _TRAINED + _HELD_OUT].tolist()
    return [rows[at] for at in order[:_TRAINED]], [rows[at] for at in order[_TRAINED:]]


def beginning(reply: str) -> str:
    """Return the first sentence of a reply."""
    return _SENTENCE_END.split(reply, 1)[0]


def _paired(rows: Sequence[Mapping[str, str]], random: np.random.Generator) -> list[Pair]:
    """Return each question with its reply, and with the reply to one of another intent."""
    partners = random.permutation(len(rows))
    found = []
    for at, row in enumerate(rows):
        step = 0
        while rows[partners[(at + step) % len(rows)]]["intent"] == row["intent"]:
            step += 1
        other = rows[partners[(at + step) % len(rows)]]
        found.append(
            {
                "prompt": row["instruction"],
                "chosen": beginning(row["response"]),
                "rejected": beginning(other["response"]),
            }
        )
    return found


def support_model(data: Path, folder: Path) -> dict[str, Any]:
    """Train a reward model on pairs of support in `folder`/run, and return what was measured."""
    training, held_out = support_pairs(data / SUPPORT)
    write_lines(folder / "train.jsonl", training)
    write_lines(folder / "held-out.jsonl", held_out)
    return _run(folder, {"train": "train.jsonl", "validation": "held-out.jsonl"}, 4)


def measure(data: Path, work: Path) -> dict[str, Any]:
    """Return the record; what is found in `work` is not measured again."""
    found = {
        "support": support_model(data, work / "support"),
        "harmless": _run(work / "harmless", {"train": str(data / _HARMLESS)}, 1),
    }
    return {
        "ratio_to_best_peer": None,  # what is measured is a quality
        "runs": found,
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _run(folder: Path, files: Mapping[str, str], epochs: int) -> dict[str, Any]:
    result_file = folder / "run" / "evaluation.json"
    if not result_file.is_file():
        spec = {
            "objective": "reward",
            "strategy": "full",
            "data": dict(files),
            "training": {"epochs": epochs, **_TRAINING},
        }
        write_json(folder / "spec.json", spec)
        command = [sys.executable, "-P", "-m", "tunefork.cli", "run", str(folder / "spec.json")]
        options = ["--json", "--resume", "--out", str(folder / "run")]
        environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT / "src"),
            "TUNEFORK_HOME": str(folder.parent / "home"),
        }
        done = subprocess.run([*command, *options], env=environment, stdout=subprocess.DEVNULL)
        if done.returncode not in _VERDICTS or not result_file.is_file():
            raise SystemExit(f"{folder.name} failed; see above")
    measured, trained = read_json(result_file), read_json(folder / "run" / "result.json")
    rewards = measured["rewards"]
    return {
        **{key: rewards[key] for key in ("pairs", "accuracy", "low", "high")},
        "calibration_error": rewards["calibration"]["error"],
        "base_validation_loss": trained["base_validation_loss"],
        "validation_loss": trained["validation_loss"],
        "forgetting": measured["forgetting"],
        "steps": trained["steps"],
        "train_seconds": trained["seconds"],
        "settings": {row["key"]: row["value"] for row in trained["settings"]},
    }


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record as a page."""
    names = ("pairs", "held out", "right", "off by", "loss before and after", "training")
    lines = [
        "# Reward models",
        "",
        "`tiny`, tuned in full, one run each. Right: held-out pairs whose better answer got the",
        "higher reward, with its 95 % interval. Off by: expected calibration error.",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
    ]
    for name, row in record["runs"].items():
        cells = (
            name,
            f"{row['pairs']:,}",
            f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
            f"{row['calibration_error']:.1%}",
            f"{row['base_validation_loss']:.3f}, {row['validation_loss']:.3f}",
            duration_text(row["train_seconds"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_lines(path: Path, pairs: Sequence[Pair]) -> None:
    write_text(path, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward")
    parser.add_argument("data", type=Path, help="the folder of both data sets")
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--resume", action="store_true", help="go on with the newest measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    record = measure(options.data, work_folder("reward", is_resumed=options.resume))
    publish("reward", record, markdown(record), options.out, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
