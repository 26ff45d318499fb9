"""Does `ppo` against a reward model make better answers? `python -m benchmarks.ppo DATA --json`.

DATA holds `bitext_customer_support`. The reward model is that of `benchmarks.reward`: it tells how
a reply to a customer's question begins from how the reply to another one does. What learns from it
is `tiny` after a short lesson in such beginnings, which it often takes from the wrong intent. `ppo`
runs with nothing set but where rewards come from and how long an answer may be.

A reward model can be fooled. So the answers to held-out questions are judged a second time, by one
that nobody learned from: a linear classifier on words, which was taught with the collection's own
replies what intent a beginning belongs to. Results: `benchmarks/results/ppo.*`.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.places import RESULTS, publish, work_folder
from benchmarks.reward import SUPPORT, beginning, support_model, support_rows, write_lines
from tunefork.core.events import StepDone, no_sink
from tunefork.core.files import read_json
from tunefork.core.units import duration_text
from tunefork.data import Message
from tunefork.evaluation import interval, paired_test
from tunefork.evaluation.bag_of_words import bag_of_words
from tunefork.inference import Decoding
from tunefork.workflow.opened import open_model
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.train import train_project

_LESSONS = 400  # rows of the first lesson
_ASKED = 200  # held-out questions
_MAX_TOKENS = 48
_AT_ONCE = 100  # questions

Row = dict[str, str]


@dataclass(frozen=True)
class _Asked:
    """Held-out questions, and who tells what intent an answer belongs to."""

    rows: Sequence[Row]
    taught: Sequence[Row]

    def right(self, model: str) -> list[float]:
        """Say of each of a model's answers whether its words are those of the right intent."""
        chat = open_model(model).chat
        decoding = Decoding(max_new_tokens=_MAX_TOKENS)
        questions = [[Message("user", row["instruction"])] for row in self.rows]
        answers: list[str] = []
        for begin in range(0, len(questions), _AT_ONCE):
            found = chat.answer(questions[begin : begin + _AT_ONCE], decoding)
            answers += [answer.text for answer in found]
        return self.told(answers)

    def told(self, answers: Sequence[str]) -> list[float]:
        """Say of each answer, in the order of the questions, whether it has the right intent."""
        names = sorted({row["intent"] for row in self.taught})
        labels = np.array([names.index(row["intent"]) for row in self.taught])
        texts = [beginning(row["response"]) for row in self.taught]
        found = bag_of_words(texts, labels, answers)
        return [
            float(names[int(at)] == row["intent"]) for at, row in zip(found, self.rows, strict=True)
        ]


def measure(data: Path, work: Path) -> dict[str, Any]:
    """Return the record; what is found in `work` is not measured again."""
    rewards = support_model(data, work / "reward")
    taught, held_out = support_rows(data / SUPPORT, np.random.default_rng(0))
    asked = _Asked(held_out[:_ASKED], taught)
    first = _first(taught[:_LESSONS], work / "first")
    run = _ppo(taught, asked.rows, first, work)
    before, after = asked.right(str(first)), asked.right(str(run))
    groups = range(len(asked.rows))
    own = asked.told([beginning(row["response"]) for row in asked.rows])
    gain = paired_test(before, after, groups)
    trained = read_json(run / "result.json")
    return {
        "ratio_to_best_peer": None,  # what is measured is a quality
        "earned": read_json(run / "evaluation.json")["earned"],
        "intent": {
            "before": vars(interval(before, groups)),
            "after": vars(interval(after, groups)),
            "gain": vars(gain),
            "own_replies": float(np.mean(own)),
        },
        "reward_model": {key: rewards[key] for key in ("accuracy", "low", "high", "pairs")},
        "steps": trained["steps"],
        "best_step": trained["best_step"],
        "ended": trained["ended"],
        "train_seconds": trained["seconds"],
        "settings": {row["key"]: row["value"] for row in trained["settings"]},
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _first(rows: Sequence[Row], folder: Path) -> Path:
    """Teach `tiny` how replies begin, and return the model."""
    lessons = [
        {"user": row["instruction"], "assistant": beginning(row["response"])} for row in rows
    ]
    write_lines(folder / "train.jsonl", lessons)
    spec = {"strategy": "full", "data": {"train": "train.jsonl"}}
    project = Project(spec=Spec.model_validate(spec), folder=folder, name="first")
    run = folder / "run"
    return train_project(project, out=run, resume=run.exists(), sink=no_sink).run.model


def _ppo(taught: Sequence[Row], held_out: Sequence[Row], base: Path, work: Path) -> Path:
    """Learn from the reward model, and return the run."""
    folder = work / "ppo"
    for name, rows in (("train", taught), ("held-out", held_out)):
        write_lines(folder / f"{name}.jsonl", [{"prompt": row["instruction"]} for row in rows])
    spec = {
        "base": str(base),
        "data": {"train": "train.jsonl", "validation": "held-out.jsonl"},
        "objective": {
            "name": "ppo",
            "reward_model": str(work / "reward" / "run"),
            "max_tokens": _MAX_TOKENS,
        },
    }
    run = folder / "run"
    if not (run / "evaluation.json").is_file():
        project = Project(spec=Spec.model_validate(spec), folder=folder, name="ppo")
        run_project(project, out=run, resume=run.exists(), sink=_tell)
    return run


def _tell(event: object) -> None:
    if isinstance(event, StepDone) and event.step % 10 == 0:
        told = ", ".join(f"{name} {value:.2f}" for name, value in event.metrics.items())
        print(f"step {event.step} of {event.steps}: {told}", file=sys.stderr)


def markdown(record: Mapping[str, Any]) -> str:
    """Return the record as a page."""
    earned, intent = record["earned"], record["intent"]
    rows = [("reward", *(f"{earned[side]['reward']:.2f}" for side in ("base", "tuned")))]
    shares = (f"{intent[side]['mean']:.1%}" for side in ("before", "after"))
    rows.append(("of the right intent, by a linear classifier", *shares))
    for key, name in (("tokens", "tokens of an answer"), ("repetition", "repetition")):
        rows.append((name, *(f"{earned[side][key]:.2f}" for side in ("base", "tuned"))))
    lines = [
        "# Learning from a reward model",
        "",
        f"`tiny`, LoRA, `ppo` from the defaults: {record['steps']} steps, "
        f"{duration_text(record['train_seconds'])}. The likeliest answers to "
        f"{earned['prompts']} held-out questions.",
        "",
        "| | before | after |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"The reward rose by {earned['gain']:.2f} ({earned['low']:.2f} to {earned['high']:.2f}), "
        f"{earned['kl']['token']:.3f} nats per token and {earned['kl']['answer']:.2f} per answer "
        "from the base. The classifier tells the intent of the collection's own replies in "
        f"{intent['own_replies']:.1%} of cases.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ppo")
    parser.add_argument("data", type=Path, help="the folder of the data set")
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--resume", action="store_true", help="go on with the newest measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    record = measure(options.data, work_folder("ppo", is_resumed=options.resume))
    publish("ppo", record, markdown(record), options.out, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
