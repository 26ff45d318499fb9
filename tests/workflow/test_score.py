"""`score`: rewards, labels and log-probabilities of given rows, and what may be wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import call
from tests.projects import THINGS, write_lines, write_project
from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.data import Message
from tunefork.inference import RewardModel, score_conversations
from tunefork.workflow.opened import open_model
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import train_project

_PAIRS: list[dict[str, Any]] = [
    {"prompt": f"what does {thing} do?", "chosen": "it naps.", "rejected": "it barks."}
    for thing in THINGS
]
_TEXTS = [
    {"text": f"{thing} {'purrs' if at % 2 else 'barks'}", "label": "cat" if at % 2 else "dog"}
    for at, thing in enumerate(THINGS)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("score") / "base")


def _trained(folder: Path, base: Path, objective: str, rows: list[dict[str, Any]]) -> str:
    spec = write_project(
        folder / "project",
        base,
        objective=objective,
        strategy={"name": "lora", "rank": 4},
        training={"epochs": 8, "batch_tokens": 256, "learning_rate": 1e-2},
        golden=None,
    )
    write_lines(folder / "project" / "train.jsonl", rows * 3)
    train_project(load_project(spec), out=folder / "run", sink=no_sink)
    return str(folder / "run")


def test_a_reward_model_scores_answers(base: Path, tmp_path: Path) -> None:
    model = _trained(tmp_path, base, "reward", _PAIRS)
    pairs = write_lines(tmp_path / "pairs.jsonl", _PAIRS)
    found = call("score", model, pairs, "--json").json
    assert found["unit"] == "reward"
    assert found["better_ahead"] == 1
    chat = open_model(model).chat
    assert isinstance(chat, RewardModel)
    asked = Message("user", _PAIRS[0]["prompt"])
    rewards = score_conversations(
        chat, [[asked, Message("assistant", _PAIRS[0][key])] for key in ("chosen", "rejected")]
    )
    assert found["rows"][0]["scores"] == pytest.approx(rewards, abs=1e-2)
    single = write_lines(tmp_path / "one.jsonl", [{"user": "who?", "assistant": "it naps."}])
    assert "better_ahead" in call("score", model, single, "--json").json
    refused = call("chat", model, "-q", "what does cat do?")
    assert refused.code == 1
    assert "tunefork score" in refused.err


def test_a_classifier_labels_texts(base: Path, tmp_path: Path) -> None:
    model = _trained(tmp_path, base, "classify", _TEXTS)
    rows = write_lines(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in _TEXTS])
    found = call("score", model, rows, "--json").json
    right = [
        row["likeliest"] == known["label"] for row, known in zip(found["rows"], _TEXTS, strict=True)
    ]
    assert sum(right) > 9
    assert found["accuracy"] is None
    called = call("score", model, rows)
    assert "%)" in called.out
    assert "label" in called.err  # what the numbers are
    known = write_lines(tmp_path / "known.jsonl", _TEXTS)
    accuracy = call("score", model, known, "--json").json["accuracy"]
    assert accuracy == pytest.approx(sum(right) / len(right))


def test_any_other_model_tells_how_likely_answers_are(base: Path, tmp_path: Path) -> None:
    rows = write_lines(tmp_path / "pairs.jsonl", _PAIRS)
    found = call("score", base, rows, "--json").json
    assert found["unit"] == "log-probability per token"
    assert 0 <= found["better_ahead"] <= 1
    assert all(
        math.isfinite(value) and value < 0 for row in found["rows"] for value in row["scores"]
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "only a text"}, "no answer to score"),
        ({"prompt": "only a prompt"}, "a prompt alone has no answer to score"),
        ({"a": 1}, "no known format"),
    ],
)
def test_rows_that_cannot_be_scored(
    row: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    called = call("score", base, write_lines(tmp_path / "rows.jsonl", [row]))
    assert called.code == 1
    assert message in called.err
