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
}
# Tokens of a step: so few that there are more than ten, after which a checkpoint is written.
_BATCHES = {**dict.fromkeys(_ROWS, 256), "sft": 128, "classify": 64, "pretrain": 128}
_LIKE_DPO = ("orpo", "simpo")  # but for their losses: left to `make soak`
_OBJECTIVES: list[Row] = [
    *({"name": name} for name in _ROWS),
    {"name": "classify", "form": "generate"},
    {"name": "classify", "labels": "several", "separator": " "},
]


def _name(objective: Row) -> str:
    return "-".join(map(str, objective.values()))


def _train_until_killed(spec: str, out: str, home: str) -> None:
    """Kill this very process once a checkpoint lies on disk."""
    os.environ["TUNEFORK_HOME"] = home

    def sink(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            os.kill(os.getpid(), signal.SIGKILL)

    train_project(load_project(Path(spec)), out=Path(out), resume=True, sink=sink)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("objectives") / "base")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed as on Unix")
@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(each, id=_name(each), marks=[pytest.mark.soak] * (each["name"] in _LIKE_DPO))
        for each in _OBJECTIVES
    ],
)
def test_a_killed_run_of_any_objective_ends_in_the_same_bits(
    objective: Row, base: Path, tmp_path: Path
) -> None:
    spec = write_project(
        tmp_path / "project",
        base,
        objective=objective,
        strategy={"name": "lora", "rank": 4, "dropout": 0.1},
        training={"epochs": 3, "batch_tokens": _BATCHES[objective["name"]], "learning_rate": 1e-2},
        golden=None,
        date="2024-05-06",
    )
    make = _ROWS[objective["name"]]
    write_lines(tmp_path / "project" / "train.jsonl", [make(at) for at in range(_COUNT)])
    whole = train_project(load_project(spec), out=tmp_path / "whole", sink=no_sink)
    # From a server that has loaded everything already, a process is there in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = (str(spec), str(tmp_path / "cut"), os.environ["TUNEFORK_HOME"])
    process = context.Process(target=_train_until_killed, args=arguments)
    process.start()
    process.join(_PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    again = train_project(load_project(spec), out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < again.result["steps"]
    for path in whole.run.model.iterdir():
        same = tmp_path / "cut" / "model" / path.name
        if path.suffix == ".safetensors":
            assert same.read_bytes() == path.read_bytes(), path.name
    cards = [
        json.loads((run / "model" / "tunefork.json").read_text())
        for run in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert cards[0].get("head") == cards[1].get("head")  # thresholds too
