"""Do few chosen rows teach as much as many dirty ones? `python -m benchmarks.select DATA --json`.

DATA holds `bitext_customer_support` and `gsm8k`. Of 5,000 dirty rows (see `dirt`), `tiny` is
trained with the defaults on 500 that `tunefork select` chose, on 500 at random, and on all; each is
asked the same 240 questions that none of the rows holds. An answer is right that is the reply,
word for word. Every round draws the rows anew. Results: `benchmarks/results/select.*`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import dirt
from benchmarks.dirt import LEVELS, Row
from benchmarks.machine import describe
from benchmarks.places import RESULTS, publish, work_folder
from tunefork.core.events import no_sink
from tunefork.core.files import write_text
from tunefork.evaluation import GoldenQuestion, interval, load_golden, paired_test
from tunefork.workflow.check import select
from tunefork.workflow.measure import ask
from tunefork.workflow.opened import open_model
from tunefork.workflow.spec import DataSpec, Project, Spec, TrainingSpec
from tunefork.workflow.train import train_project

_ROWS, _KEPT = 5000, 500
_CHOSEN, _RANDOM, _ALL = "selected", "random", "all"
_KINDS = ("clean", "duplicate", "conflict", "truncated", "off_topic")


@dataclass
class _Trained:
    """What one way to choose rows came to, round by round."""

    kinds: Counter[str] = field(default_factory=Counter)
    scores: list[list[float]] = field(default_factory=list)  # of each question
    tokens: list[int] = field(default_factory=list)  # seen while training


@dataclass(frozen=True)
class _Set:
    """Rows to train on."""

    path: Path
    rows: Sequence[Row]


def measure(data: Path, work: Path, levels: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return the record; everything that is made on the way lies in `work`."""
    rows, others = dirt.load(data)
    asked, rest = dirt.keep_apart(rows)
    golden = load_golden(_write_golden(work / "golden.jsonl", asked))
    found = {level: _level(level, (rest, others), golden, work / level, rounds) for level in levels}
    return {
        "ratio_to_best_peer": None,  # no peer selects rows
        "levels": found,
        "questions": len(golden),
        "groups": len({question.group for question in golden}),
        "rounds": rounds,
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }


def _level(
    level: str,
    rows: tuple[list[Row], list[Row]],
    golden: Sequence[GoldenQuestion],
    work: Path,
    rounds: int,
) -> dict[str, Any]:
    """Train and ask with data of one level of dirt."""
    trained = {name: _Trained() for name in (_CHOSEN, _RANDOM, _ALL)}
    for turn in range(rounds):
        dirty = dirt.make_dirty(*rows, level, _ROWS, turn)
        folder = work / f"round{turn}"
        for name, used in _write_sets(folder, dirty, turn).items():
            scores, result = _score(used, folder / name, golden, turn)
            trained[name].kinds.update(row.kind for row in used.rows)
            trained[name].scores.append(scores)
            trained[name].tokens.append(result["tokens"])
            _say(f"{level}, round {turn + 1}: {name}, {len(used.rows):,} rows, {fmean(scores):.1%}")
    return _record(trained, [question.group for question in golden], rounds)


def _write_sets(folder: Path, dirty: list[Row], seed: int) -> dict[str, _Set]:
    """Write the rows that each model is trained on."""
    every = _write_rows(folder / "all.jsonl", dirty)
    chosen = folder / "selected.jsonl"
    found = select(every, keep=_KEPT, out=chosen, mapping=None, base="tiny", sink=no_sink)
    drawn = random.Random(seed).sample(dirty, _KEPT)
    return {
        _CHOSEN: _Set(chosen, [dirty[number - 1] for number in found["selected"]]),
        _RANDOM: _Set(_write_rows(folder / "random.jsonl", drawn), drawn),
        _ALL: _Set(every, dirty),
    }


def _score(
    used: _Set, run: Path, golden: Sequence[GoldenQuestion], seed: int
) -> tuple[list[float], dict[str, Any]]:
    """Train, or go on where that was killed; ask, and return the scores and training's result."""
    spec = Spec(data=DataSpec(train=str(used.path)), training=TrainingSpec(seed=seed))
    project = Project(spec=spec, folder=used.path.parent, name=used.path.stem)
    trained = train_project(
        project, out=run, resume=run.exists(), sink=no_sink, is_registered=False
    )
    _, grades = ask(open_model(str(trained.run.path)).chat, golden, run.name, no_sink)
    return [grade.score for grade in grades], trained.result


def _record(trained: dict[str, _Trained], groups: list[str], rounds: int) -> dict[str, Any]:
    """Return what was measured; a question's score is its mean over the rounds."""
    means = {
        name: [fmean(of_one) for of_one in zip(*found.scores, strict=True)]
        for name, found in trained.items()
    }
    return {
        "gain_over": {
            name: asdict(paired_test(means[name], means[_CHOSEN], groups))
            for name in (_RANDOM, _ALL)
        },
        "sets": {
            name: {
                "rows": found.kinds.total() // rounds,
                "kinds": {kind: found.kinds[kind] / rounds for kind in _KINDS},
                "score": asdict(interval(means[name], groups)),
                "scores_by_round": [fmean(scores) for scores in found.scores],
                "train_tokens": found.tokens,
            }
            for name, found in trained.items()
        },
    }


def _write_rows(path: Path, rows: Sequence[Row]) -> Path:
    return _write(path, [{"user": row.user, "assistant": row.assistant} for row in rows])


def _write_golden(path: Path, rows: Sequence[Row]) -> Path:
    """Write questions; all about one reply are one group, since they stand or fall together."""
    keys = ("question", "reference", "grader", "group")
    found = [(row.user, row.assistant, "exact", row.intent) for row in rows]
    return _write(path, [dict(zip(keys, values, strict=True)) for values in found])


def _write(path: Path, values: Sequence[dict[str, str]]) -> Path:
    write_text(path, "".join(json.dumps(value) + "\n" for value in values))
    return path


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    lines = [
        "# Few chosen rows against many dirty ones",
        "",
        f"`tiny`, trained with the defaults; rounds, each with rows drawn anew: {record['rounds']}."
        f" {record['questions']} questions about {record['groups']} replies; right is the reply"
        " word for word. Intervals: 95 %, questions about one reply as one.",
    ]
    for level, found in record["levels"].items():
        lines += ["", f"## Dirt: {level}", "", *_table(found["sets"]), ""]
        for name, test in found["gain_over"].items():
            span = f"{100 * test['low']:+.1f} to {100 * test['high']:+.1f}"
            lines.append(
                f"- selected over {name}: {100 * test['gain']:+.1f} points ({span}), "
                f"p = {test['p_value']:.4f}"
            )
    return "\n".join([*lines, "", f"Machine: {json.dumps(record['machine'])}", ""])


def _table(sets: dict[str, Any]) -> list[str]:
    names = " | ".join(kind.replace("_", " ") for kind in _KINDS)
    lines = [f"| trained on | rows | {names} | right | tokens trained on |", "|---" * 9 + "|"]
    for name, found in sets.items():
        counts = " | ".join(f"{found['kinds'][kind]:,.0f}" for kind in _KINDS)
        score = found["score"]
        right = f"{score['mean']:.1%} ({score['low']:.1%} to {score['high']:.1%})"
        tokens = f"{fmean(found['train_tokens']):,.0f}"
        lines.append(f"| {name} | {found['rows']:,} | {counts} | {right} | {tokens} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.select", description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds both data sets")
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--rounds", type=int, default=1, help="how often, with rows drawn anew")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--resume", action="store_true", help="go on with the newest measurement")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    work = work_folder("select", is_resumed=options.resume)
    record = measure(options.data, work, options.levels, options.rounds)
    publish("select", record, markdown(record), options.out, as_json=options.json)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
