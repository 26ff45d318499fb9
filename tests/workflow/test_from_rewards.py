"""Learning from rewards, from a file to a verdict; and what may be wrong with file and rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import DataError, InputError, ModelError, RunError, SpecError, Where
from tunefork.core.events import CheckpointSaved, Event, no_sink
from tunefork.data import Message, Prompt
from tunefork.workflow import run as run_module
from tunefork.workflow.judging import opened_judges
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project

_EVEN = "def grade(sample, item):\n    return len(sample['output_text']) % 2"
_GRPO = {
    "name": "grpo",
    "grader": {"type": "python", "source": _EVEN},
    "prompts": 4,
    "answers": 3,
    "max_tokens": 6,
}
_PPO = {**_GRPO, "name": "ppo", "passes": 2}


def _prompts(count: int = 24) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"say {'abcdefgh'[at % 8]} {THINGS[at % 12]}"}
            ],
            "wanted": THINGS[at % 12],
        }
        for at in range(count)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("rewards") / "base")


def _project(
    folder: Path, base: Path, objective: Any, rows: list[dict[str, Any]], **spec: Any
) -> Project:
    given = {
        "strategy": {"name": "lora", "rank": 4},
        "training": {"epochs": 1, "learning_rate": 5e-3},
        **spec,
    }
    path = write_project(folder, base, objective=objective, **given)
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


@pytest.mark.parametrize("objective", [_GRPO, _PPO], ids=["grpo", "ppo"])
def test_a_run_leaves_samples_curves_and_no_value_head(
    objective: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    project = _project(tmp_path, base, objective, _prompts())
    result = run_project(project, out=tmp_path / "run", sink=no_sink)
    assert any("mean reward" in reason for reason in result["reasons"])
    found = result["earned"]
    assert found["low"] <= found["gain"] <= found["high"]
    assert found["gain"] == pytest.approx(found["tuned"]["reward"] - found["base"]["reward"])
    assert 1 <= found["kl"]["answer"] / found["kl"]["token"] <= 6  # tokens of an answer
    trained = json.loads((tmp_path / "run" / "result.json").read_text())
    assert trained["validation_loss"] == pytest.approx(-trained["validation_metrics"]["reward"])
    # The model that was saved earns what it earned in training, and so did the base.
    assert found["tuned"]["reward"] == pytest.approx(trained["validation_metrics"]["reward"])
    assert found["base"]["reward"] == pytest.approx(trained["base_validation_metrics"]["reward"])
    samples = [
        json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    ]
    assert {"step", "row", "prompt", "answer", "reward", "advantage"} <= samples[0].keys()
    assert samples[0]["prompt"].startswith("say ")
    assert samples[0]["row"].startswith("train.jsonl:")
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Share of answers that pass" in report
    assert "Answers while it learned" in report
    assert "What answers earn" in report
    assert "modules_to_save" not in (tmp_path / "run" / "model" / "adapter_config.json").read_text()
    metrics = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all({"reward", "length", "passed"} <= row.keys() for row in metrics if "loss" in row)


class _Stop(Exception):
    pass


def test_a_resumed_run_has_the_same_bytes_curve_and_samples(base: Path, tmp_path: Path) -> None:
    project = _project(tmp_path, base, {**_PPO, "passes": 3}, _prompts(40))
    whole = train_project(project, out=tmp_path / "whole", sink=no_sink)
    saved: list[Event] = []

    def stopping(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event)
            raise _Stop

    with pytest.raises(_Stop):
        train_project(project, out=tmp_path / "cut", sink=stopping)
    again = train_project(project, out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < whole.result["steps"]
    assert again.result["resumed_from"] % 3, "in the middle of a rollout"
    for name in ("model/adapter_model.safetensors", "samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("rows", "reference"),
    [
        ([{"prompt": f"say {at}a", "reference": "b"} for at in "abcdefgh"], "b"),
        ([{"question": f"say {at}a", "reference": "b"} for at in "abcdefgh"], "b"),
        ([{"prompt": f"say {at}a", "completion": "b"} for at in "abcdefgh"], "b"),
        ([{"messages": [{"role": "user", "content": f"say {at}"}], "n": 2} for at in "abcd"], None),
    ],
    ids=["reference", "question", "pairs", "messages"],
)
def test_prompts_are_recognised_and_answers_are_their_references(
    rows: list[dict[str, Any]], reference: str | None, base: Path, tmp_path: Path
) -> None:
    prepared = prepare(_project(tmp_path, base, _GRPO, rows, golden=None), no_sink)
    assert prepared.prompts is not None
    known = [*prepared.prompts.training, *prepared.prompts.held_out]
    assert len(known) == len(rows)
    assert {row.item.get("reference") for row in known} == {reference}
    for at, row in enumerate(prepared.prompts.training):
        tokens = prepared.data.rows.rows.row(at)[0].tolist()  # type: ignore[union-attr]
        assert tokens == prepared.renderer.prompt(row.messages)


def test_a_map_of_the_prompt_alone_makes_prompts_of_any_table(base: Path, tmp_path: Path) -> None:
    rows = [{"q": f"say {at}", "n": 3} for at in "abcdefgh"]
    data = {"train": "train.jsonl", "map": {"prompt": "q"}}
    prepared = prepare(_project(tmp_path, base, _GRPO, rows, data=data, golden=None), no_sink)
    assert prepared.prompts is not None
    assert dict(prepared.prompts.training[0].item) == {"n": 3}


def test_rows_of_another_kind_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(DataError, match="`grpo` and `ppo` learn from prompts"):
        prepare(_project(tmp_path, base, _GRPO, rows), no_sink)
    with pytest.raises(DataError, match="the rows are prompts") as told:
        prepare(_project(tmp_path / "sft", base, "sft", _prompts()), no_sink)
    assert "objective: grpo" in (told.value.hint or "")


def _without(*names: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in {**_GRPO, **more}.items() if key not in names}


@pytest.mark.parametrize(
    ("objective", "error", "said"),
    [
        (_without("grader"), SpecError, "rewards come from one of"),
        (_without(function="a.py:f"), SpecError, "`grader` and `function` is given"),
        (_without("grader", function="a.py"), SpecError, "names no function"),
        (_without("grader", function="gone.py:f"), SpecError, "cannot read `gone.py`"),
        (_without("grader", function="bad.py:f"), SpecError, r"bad.py:2: not a Python program"),
        (_without("grader", function="other.py:f"), SpecError, r"other.py: it defines no `f`"),
        (_without("grader", reward_model="tiny"), ModelError, "is no reward model"),
        (_without(grader={"type": "nothing"}), InputError, "unknown grader"),
        (
            _without(grader={"type": "contains", "any": ["a"], "or": 1}),
            InputError,
            "unknown setting",
        ),
        (
            _without(
                grader={
                    "type": "string_check",
                    "name": "x",
                    "input": "{{sample.output_text}}",
                    "reference": "{{item.wnted}}",
                    "operation": "eq",
                }
            ),
            DataError,
            "wnted",
        ),
        (_without(max_tokens=4000), SpecError, "leave no room for prompts"),
    ],
)
def test_what_cannot_give_rewards_is_said_before_anything_is_written(
    objective: Any, error: type[InputError], said: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text("x = 1\ndef f(sample, item) return 1\n")
    (tmp_path / "other.py").write_text("def g(sample, item):\n    return 1\n")

    def attempt() -> None:
        project = _project(tmp_path, base, objective, _prompts())
        train_project(project, out=tmp_path / "run", sink=no_sink)

    with pytest.raises(error, match=said):
        attempt()
    assert not (tmp_path / "run").exists()


_PROGRAMS = {
    "raises": ("raise ValueError('oh')", "oh"),
    "loops": ("while True: pass", "2 s"),
    "forks": ("import os; os.fork(); return 1", "may keep programs from files, network and"),
    "reads": ("return len(open('/etc/passwd').read())", "may keep programs from files"),
    "nan": ("return float('nan')", "nan"),
    "text": ("return 'good'", ""),
}


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_bad_function_gives_no_reward_and_a_reason(name: str, base: Path, tmp_path: Path) -> None:
    body, said = _PROGRAMS[name]
    path = tmp_path / "mine.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"def mine(sample, item):\n    {body}\n")
    objective = _without("grader", function="mine.py:mine")
    project = _project(tmp_path, base, objective, _prompts())
    prompt = Prompt((Message("user", "hi"),), Where("rows"))
    with opened_judges(project) as judges:
        (mark,) = judges.of([prompt])([0], ["an answer"])
    assert mark.reward is None
    assert mark.problem
    assert said in mark.problem


def test_a_function_sees_answer_and_item(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def mine(sample, item):\n    return item['n'] + len(sample['output_text'])\n"
    )
    project = _project(tmp_path, base, _without("grader", function="mine.py:mine"), _prompts())
    prompts = [Prompt((Message("user", "hi"),), Where("rows"), {"n": n}) for n in (-4, 1)]
    with opened_judges(project) as judges:
        marks = judges.of(prompts)([1, 0], ["abc", "abc"])
    assert [mark.reward for mark in marks] == [4, -1]
    assert [mark.passed for mark in marks] == [True, False]


def test_a_grader_that_always_fails_stops_the_run_with_its_reason(
    base: Path, tmp_path: Path
) -> None:
    broken = {"type": "python", "source": "def grade(sample, item):\n    return 1 / 0"}
    project = _project(tmp_path, base, _without(grader=broken), _prompts())
    with pytest.raises(RunError, match=r"not one of .* could be judged: .*division by zero"):
        train_project(project, out=tmp_path / "run", sink=no_sink)


def test_a_model_grades_where_its_grader_asks_one(base: Path, tmp_path: Path) -> None:
    grader = {
        "type": "score_model",
        "name": "tone",
        "range": [0, 10],
        "input": [{"role": "user", "content": "say 7: {{sample.output_text}}"}],
    }
    project = _project(tmp_path, base, _without(grader=grader), _prompts())
    with opened_judges(project) as judges:
        marks = judges.of([Prompt((Message("user", "hi"),), Where("rows"))])([0], ["abc"])
    assert marks[0].reward is not None or "replied" in marks[0].problem
