"""Reward models: the loss, training on pairs to a report, scoring; and what may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import ModelError
from tunefork.core.events import CheckpointSaved, Event, no_sink
from tunefork.data import Message
from tunefork.inference import Decoding, RewardModel, score_conversations
from tunefork.objectives.losses import reward_losses
from tunefork.workflow import run as run_module
from tunefork.workflow import train as train_module
from tunefork.workflow.opened import open_model
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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("reward") / "base")


def _project(folder: Path, base: Path, rows: list[dict[str, Any]], **spec: Any) -> Project:
    given = {
        "objective": "reward",
        "strategy": {"name": "lora", "rank": 4},
        "training": _TRAINING,
        "golden": None,
        **spec,
    }
    path = write_project(folder, base, **given)
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


def test_the_loss_is_its_formula() -> None:
    chosen, rejected = torch.tensor([1.0, -0.5]), torch.tensor([0.2, 0.7])
    plain = torch.log1p(torch.exp(rejected - chosen))
    torch.testing.assert_close(reward_losses(chosen, rejected), plain)
    centred = plain + 0.3 * (chosen + rejected) ** 2
    torch.testing.assert_close(reward_losses(chosen, rejected, centre=0.3), centred)


def test_a_run_tells_agreement_and_the_model_scores(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    rows = [*_pairs(40), *_pairs(3)]
    for row in rows[-3:]:  # people who disagree with the others
        row["prompt"], row["chosen"], row["rejected"] = "so?", row["rejected"], row["chosen"]
    data = {"train": "train.jsonl", "validation": "other.jsonl"}
    project = _project(tmp_path, base, _pairs(40), data=data)
    write_lines(tmp_path / "other.jsonl", rows)
    result = run_project(project, out=tmp_path / "run", sink=no_sink)
    found = result["rewards"]
    assert found["pairs"] == 43
    assert found["accuracy"] == pytest.approx(40 / 43)
    assert found["low"] < found["accuracy"] < found["high"]
    assert [each["place"] for each in found["disagreements"]]
    assert {each["place"] for each in found["disagreements"]} == {
        f"other.jsonl:{line}" for line in (41, 42, 43)
    }
    assert all("barks" in each["chosen"] for each in found["disagreements"])
    assert sum(each["count"] for each in found["calibration"]["bins"]) == 43
    chat = open_model(str(tmp_path / "run")).chat
    assert isinstance(chat, RewardModel)
    asked = Message("user", "what does cat a do?")
    good, bad = (
        [asked, Message("assistant", answer)] for answer in ("a cat naps.", "a cat barks.")
    )
    one, other = score_conversations(chat, [good, bad])
    assert one > other
    assert score_conversations(chat, []) == []
    with pytest.raises(ModelError, match="gives none"):
        chat.answer([[asked]], Decoding(max_new_tokens=4))


def test_what_it_forgets_does_not_choose_its_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def watching(model: Any, items: Any, renderer: Any, data: Any, *others: Any) -> Any:
        asked.append(items)
        return data

    monkeypatch.setattr(train_module, "general_watch", watching)
    train_project(_project(tmp_path, base, _pairs(8)), out=tmp_path / "run", sink=no_sink)
    assert asked == [()]


class _Stop(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_bits(base: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "replay": 0.2}
    project = _project(tmp_path, base, _pairs(), data=data)
    whole = train_project(project, out=tmp_path / "whole", sink=no_sink)

    def stopping(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            raise _Stop

    with pytest.raises(_Stop):
        train_project(project, out=tmp_path / "cut", sink=stopping)
    again = train_project(project, out=tmp_path / "cut", resume=True, sink=no_sink)
    assert 0 < again.result["resumed_from"] < again.result["steps"]
    name = "adapter_model.safetensors"
    assert (again.run.model / name).read_bytes() == (whole.run.model / name).read_bytes()
