"""Whatever is learned: killed in the middle, `train --resume` goes on to the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.projects import THINGS, write_lines, write_project
from tests.small import save_model
from tunefork.core.events import CheckpointSaved, Event, no_sink
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import train_project

_PATIENCE_S = 120.0
_COUNT = 30
_LABELS = ("cat", "dog", "hen")
Row = dict[str, Any]


def _asked(at: int) -> str:
    return f"who is {THINGS[at % 12]} {'abcdefgh'[at % 8]}?"


def _pair(at: int) -> Row:
    return {"prompt": _asked(at), "chosen": "it naps.", "rejected": "it barks."}


_ROWS: dict[str, Callable[[int], Row]] = {
    "sft": lambda at: {"user": _asked(at), "assistant": "a thing that naps."},
    **dict.fromkeys(("dpo", "orpo", "simpo", "reward"), _pair),
    "kto": lambda at: {"prompt": _asked(at), "completion": "it naps.", "label": at % 2 == 0},
    "classify": lambda at: {"text": _asked(at), "label": _LABELS[at % 3]},
    "pretrain": lambda at: {"text": _asked(at) * (1 + at % 3)},
    **dict.fromkeys(("grpo", "ppo"), lambda at: {"prompt": _asked(at)}),
}
# Tokens of a step: so few that there are more than ten, after which a checkpoint is written.
_BATCHES = {**dict.fromkeys(_ROWS, 256), "sft": 128, "classify": 64, "pretrain": 128}
_EVEN = "def grade(sample, item):\n    return len(sample['output_text']) % 2"
_DRAWN = {
    "grader": {"type": "python", "source": _EVEN},
    "answers": 3,
    "max_tokens": 6,
    "passes": 3,  # so that there are checkpoints in the middle of a rollout
}
_FROM_REWARDS: list[Row] = [
    {"name": "grpo", **_DRAWN},
    {"name": "grpo", "variant": "dapo", **_DRAWN},
    {"name": "ppo", **_DRAWN},
]
_LIKE_ANOTHER = ("orpo", "simpo", "dapo")  # but for their losses: left to `make soak`
_OBJECTIVES: list[Row] = [
    *({"name": name} for name in _ROWS if name not in ("grpo", "ppo")),
    {"name": "classify", "form": "generate"},
    {"name": "classify", "labels": "several", "separator": " "},
    *_FROM_REWARDS,
]


def _name(objective: Row) -> str:
    return "-".join(value for value in objective.values() if isinstance(value, str)).strip("- ")


def _is_like_another(objective: Row) -> bool:
    return not {objective["name"], objective.get("variant")}.isdisjoint(_LIKE_ANOTHER)


def _train_until_killed(spec: str, out: str, home: str, after: int | None) -> None:
    """Kill this very process after so many events, or else once a checkpoint lies on disk."""
    os.environ["TUNEFORK_HOME"] = home
    seen: list[Event] = []

    def sink(event: Event) -> None:
        seen.append(event)
        if isinstance(event, CheckpointSaved) if after is None else len(seen) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    train_project(load_project(Path(spec)), out=Path(out), resume=True, sink=sink)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("objectives") / "base")


def _project(folder: Path, objective: Row, base: Path, strategy: Row, epochs: int) -> Path:
    """Write a project of which a checkpoint is written before its end."""
    name = objective["name"]
    spec = write_project(
        folder / "project",
        base,
        objective=objective,
        strategy=strategy,
        training={
            "epochs": epochs,
            "batch_tokens": _BATCHES[name],
            "learning_rate": 1e-2,
        },
        golden=None,
        date="2024-05-06",
    )
    write_lines(folder / "project" / "train.jsonl", [_ROWS[name](at) for at in range(_COUNT)])
    return spec


def _is_killed(spec: Path, out: Path, after: int | None) -> bool:
    """Train in a process that gets killed, see `_train_until_killed`, or comes to its end."""
    # From a server that has loaded everything already, a process is there in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = (str(spec), str(out), os.environ["TUNEFORK_HOME"], after)
    process = context.Process(target=_train_until_killed, args=arguments)
    process.start()
    process.join(_PATIENCE_S)
    assert process.exitcode in (-signal.SIGKILL, 0)
    return process.exitcode != 0


def _same_bytes(folder: Path) -> None:
    """Compare what the runs `whole` and `cut` left, whatever they learned."""
    made = [*(folder / "whole" / "model").glob("*.safetensors")]
    made += (folder / "whole").glob("samples.jsonl")
    for path in made:
        same = folder / "cut" / path.relative_to(folder / "whole")
        assert same.read_bytes() == path.read_bytes(), path.name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as on Unix")
@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(each, id=_name(each), marks=[pytest.mark.soak] * _is_like_another(each))
        for each in _OBJECTIVES
    ],
)
def test_a_killed_run_of_any_objective_ends_in_the_same_bits(
    objective: Row, base: Path, tmp_path: Path
) -> None:
    epochs = 2 if objective["name"] in ("grpo", "ppo") else 3
    strategy = {"name": "lora", "rank": 4, "dropout": 0.1}
    spec = _project(tmp_path, objective, base, strategy, epochs)
    train_project(load_project(spec), out=tmp_path / "whole", sink=no_sink)
    assert _is_killed(spec, tmp_path / "cut", None)
    again = train_project(load_project(spec), out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < again.result["steps"]
    _same_bytes(tmp_path)
    cards = [
        json.loads((run / "model" / "tunefork.json").read_text())
        for run in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert cards[0].get("head") == cards[1].get("head")  # thresholds too


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as on Unix")
@pytest.mark.parametrize("strategy", ["lora", "full", "prefix", "bottleneck", "qlora"])
@pytest.mark.parametrize(
    "objective", [pytest.param(each, id=_name(each)) for each in _FROM_REWARDS]
)
def test_a_run_on_rewards_killed_again_and_again_ends_in_the_same_bits(
    objective: Row, strategy: str, base: Path, tmp_path: Path
) -> None:
    spec = _project(tmp_path, objective, base, {"name": strategy}, epochs=8)
    whole = train_project(load_project(spec), out=tmp_path / "whole", sink=no_sink)
    # Events, of which each step is one at least; a run may come to its end by itself.
    killed = [_is_killed(spec, tmp_path / "cut", after) for after in (7, 20, 45, 30, 30)]
    assert sum(killed) >= 3
    again = train_project(load_project(spec), out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < whole.result["steps"]
    _same_bytes(tmp_path)
