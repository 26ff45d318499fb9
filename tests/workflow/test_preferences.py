"""Learning from preferences, from a file to a verdict; and what may be wrong with the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import DataError
from tunefork.core.events import CheckpointSaved, Event, Warned, no_sink
from tunefork.core.files import home
from tunefork.data import Items
from tunefork.workflow import rules
from tunefork.workflow import run as run_module
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project

_TRAINING = {"epochs": 5, "batch_tokens": 768, "learning_rate": 8e-3}


def _pairs(count: int = 40) -> list[dict[str, Any]]:
    """Return pairs in which answers that nap are better than answers that bark."""
    return [
        {
            "prompt": f"what does {THINGS[at % len(THINGS)]} {'abcdefghijklm'[at % 13]} do?",
            "chosen": f"a {THINGS[at % len(THINGS)]} naps.",
            "rejected": f"a {THINGS[at % len(THINGS)]} barks.",
        }
        for at in range(count)
    ]


def _judged(count: int = 40) -> list[dict[str, Any]]:
    sides = ("chosen", "rejected")
    return [
        {"prompt": pair["prompt"], "completion": pair[sides[at % 2]], "label": at % 2 == 0}
        for at, pair in enumerate(_pairs(count))
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("preferences") / "base")


def _project(
    folder: Path, base: Path, objective: Any, rows: list[dict[str, Any]], **spec: Any
) -> Project:
    given = {"strategy": {"name": "lora", "rank": 4}, "training": _TRAINING, **spec}
    path = write_project(folder, base, objective=objective, **given)
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "simpo", {"name": "dpo", "loss": "ipo"}])
def test_a_run_on_pairs_says_how_often_the_better_answer_is_likelier(
    objective: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    project = _project(tmp_path, base, objective, _pairs())
    result = run_project(project, out=tmp_path / "run", sink=no_sink)
    found = result["preferences"]
    assert found["tuned"]["score"] > 0.9
    assert found["base"]["low"] <= found["base"]["score"] <= found["base"]["high"]
    assert found["gain"] == pytest.approx(found["tuned"]["score"] - found["base"]["score"])
    assert found["kl"] > 0
    assert result["held_out"] is None  # loss per token says little about pairs
    assert "better answer likelier" in (tmp_path / "run" / "report.html").read_text().lower()
    curve = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in curve]
    assert all("accuracy" in line or "validation_accuracy" in line for line in lines)


def test_a_run_on_judged_answers(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    training = {"epochs": 8, "batch_tokens": 512, "learning_rate": 5e-3}
    project = _project(tmp_path, base, "kto", _judged(), training=training)
    result = run_project(project, out=tmp_path / "run", sink=no_sink)
    assert result["preferences"] is None
    trained = json.loads((tmp_path / "run" / "result.json").read_text())
    assert trained["validation_metrics"]["accuracy"] > 0.8
    assert trained["validation_metrics"]["kl"] >= 0


@pytest.mark.parametrize("strategy", ["full", {"name": "lora", "rank": 4}])
def test_the_base_needs_no_second_copy_whatever_the_strategy(
    strategy: Any, base: Path, tmp_path: Path
) -> None:
    training = {**_TRAINING, "learning_rate": 5e-4}
    project = _project(tmp_path, base, "dpo", _pairs(), strategy=strategy, training=training)
    result = train_project(project, out=tmp_path / "run", sink=no_sink).result
    assert result["base_validation_metrics"]["margin"] == pytest.approx(0, abs=1e-3)
    assert result["validation_loss"] < result["base_validation_loss"]


def test_general_rows_are_replayed_beside_pairs(base: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "replay": 0.2}
    project = _project(tmp_path, base, "dpo", _pairs(), data=data)
    trained = train_project(project, out=tmp_path / "run", sink=no_sink)
    assert trained.prepared is not None
    assert trained.prepared.data.n_replayed == 8
    assert trained.result["validation_metrics"]["accuracy"] > 0.9


class _Stop(Exception):
    pass


@pytest.mark.parametrize("loses_cache", [False, True])
def test_an_interrupted_run_ends_in_the_same_bits(
    loses_cache: bool, base: Path, tmp_path: Path
) -> None:
    project = _project(tmp_path, base, "dpo", _pairs())
    whole = train_project(project, out=tmp_path / "whole", sink=no_sink)
    saved: list[Event] = []

    def stopping(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event)
            raise _Stop

    with pytest.raises(_Stop):
        train_project(project, out=tmp_path / "cut", sink=stopping)
    if loses_cache:
        shutil.rmtree(home() / "cache" / "reference")
    again = train_project(project, out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < again.result["steps"]
    name = "adapter_model.safetensors"
    assert (again.run.model / name).read_bytes() == (whole.run.model / name).read_bytes()
    assert again.result["validation_metrics"] == whole.result["validation_metrics"]


@pytest.mark.parametrize(
    ("objective", "rows", "says", "hints"),
    [
        (
            "dpo",
            [{"user": "a?", "assistant": "b."}],
            "the rows are conversations",
            "`objective: sft`",
        ),
        ("sft", _pairs(2), "the rows are better and worse answers", "`objective: dpo`"),
        ("kto", _pairs(2), "`dpo`, `orpo`, `simpo` and `reward` learn from", "`objective: dpo`"),
        ("dpo", _judged(2), "the rows are answers judged good or bad", "`objective: kto`"),
        ("dpo", [*_pairs(3), {"prompt": "a?", "rejected": "b"}], "no `chosen`", "one format"),
    ],
)
def test_rows_of_another_kind_are_one_clear_message(
    objective: str, rows: list[dict[str, Any]], says: str, hints: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        prepare(_project(tmp_path, base, objective, rows), no_sink)
    assert says in str(error.value)
    assert hints in str(error.value)
    assert "train.jsonl:" in str(error.value.where)


def test_pairs_that_teach_nothing_are_left_out_and_named(base: Path, tmp_path: Path) -> None:
    rows = _pairs(12)
    rows[1]["rejected"] = rows[1]["chosen"]
    rows[4]["rejected"] = "   "
    rows[7]["chosen"] = "naps " * 60
    seen: list[Event] = []
    project = _project(tmp_path, base, "dpo", rows, training={**_TRAINING, "max_length": 96})
    prepared = prepare(project, seen.append)
    warned = "\n".join(event.message for event in seen if isinstance(event, Warned))
    assert "whose two answers are the same, left out" in warned
    assert "train.jsonl:2" in warned
    assert "with an empty answer, left out" in warned
    assert "longer than 96 tokens, left out" in warned
    n_held_out = len(prepared.data.validation) if prepared.data.validation else 0
    assert len(prepared.data.rows) + n_held_out == 9


def test_where_no_pair_is_left_it_says_so(base: Path, tmp_path: Path) -> None:
    rows = [{**pair, "rejected": pair["chosen"]} for pair in _pairs(5)]
    with pytest.raises(DataError, match="whose two answers are the same"):
        prepare(_project(tmp_path, base, "dpo", rows), no_sink)


def test_pairs_on_one_prompt_stay_on_one_side_of_the_split(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"what is {THINGS[at % 12]}?", "chosen": "naps" + "." * at, "rejected": "no"}
        for at in range(60)
    ]
    prepared = prepare(_project(tmp_path, base, "dpo", rows), no_sink)
    validation = prepared.data.validation
    assert validation is not None
    sides = [_prompts(Items.of(items)) for items in (prepared.data.rows, validation)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 12


def _prompts(items: Items) -> set[bytes]:
    """Return the tokens before the first answer of each item."""
    rows = [items.rows.row(int(row)) for row in items.starts[:-1]]
    return {ids[: int(weights.argmax())].tobytes() for ids, weights in rows}


def test_whole_answers_are_learned_slower_the_longer_they_are_and_in_fewer_passes() -> None:
    rates = [rules.learning_rate(2000, "lora", length, "dpo") for length in (1, 4, 100)]
    assert rates == [5e-4, 2.5e-4, 5e-5]
    assert rules.epochs(20, "dpo") < rules.epochs(20)
