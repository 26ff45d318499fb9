"""Continued pre-training on plain texts: how they are cut, packed, trained and measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import packed_model, random_rows, save_model
from tests.training.small_run import SETTINGS
from tunefork.core.errors import DataError, RunError, SpecError
from tunefork.core.events import CheckpointSaved, Event, Warned, no_sink
from tunefork.data import Items
from tunefork.models import collate
from tunefork.objectives import REPLAYED, Pretrain
from tunefork.training import Plan
from tunefork.workflow import run as run_module
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project

_BEGIN, _END = 1, 2  # ids of the small tokenizer's own


def _texts(count: int = 30) -> list[dict[str, Any]]:
    return [
        {"text": f"the {THINGS[at % 12]} {'abcdefgh'[at % 8]} naps. " * (1 + at % 3)}
        for at in range(count)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("pretrain") / "base")


def _project(folder: Path, base: Path, rows: list[dict[str, Any]], **spec: Any) -> Project:
    given = {
        "strategy": {"name": "lora", "rank": 4},
        "training": {"epochs": 4, "batch_tokens": 256, "learning_rate": 1e-2},
        **spec,
    }
    path = write_project(folder, base, objective="pretrain", **given)
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pieces_of_a_row_put_together_are_the_row(limit: int) -> None:
    rows = random_rows(9).select([4, 0, 0, 8, 3])
    pieces, row_of = rows.cut(limit)
    assert pieces.lengths.max() <= limit
    for number in range(len(rows)):
        own = np.flatnonzero(row_of == number)
        assert (pieces.lengths[own[:-1]] == limit).all()
        for part in (0, 1):  # ids, weights
            joined = np.concatenate([pieces.row(at)[part] for at in own.tolist()])
            np.testing.assert_array_equal(joined, rows.row(number)[part])


def test_a_text_never_sees_another_in_its_packed_row() -> None:
    items, model = Items(random_rows(6, longest=40)), packed_model("llama")
    objective = Pretrain()
    with torch.no_grad():
        together = objective.loss(model, collate(items, range(6)))
        alone = [objective.loss(model, collate(items, [at])) for at in range(6)]
    torch.testing.assert_close(together.total, torch.stack([one.total for one in alone]).sum())


def test_long_texts_are_cut_and_none_of_it_is_lost(base: Path, tmp_path: Path) -> None:
    training = {"epochs": 1, "max_length": 16}
    prepared = prepare(_project(tmp_path, base, _texts(), training=training), no_sink)
    validation = prepared.data.validation
    assert validation is not None
    assert Items.of(prepared.data.rows).lengths.max() <= 16
    n_characters = sum(len(row["text"]) for row in _texts())
    n_marks = sum(len(part.rows.ids) for part in map(Items.of, (prepared.data.rows, validation)))
    per_text = 1 + int(prepared.renderer.tokenizer.adds_bos)
    assert n_marks == n_characters + per_text * len(_texts())
    first_ids, first_weights = Items.of(prepared.data.rows).rows.row(0)
    assert first_weights[1:].all()
    assert first_ids[0] != _END
    name = prepared.data.name_row
    assert name is not None
    names = [name(at) for at in range(len(prepared.data.rows))]
    assert len(set(names)) < len(names)  # pieces of one text are named by it
    assert all(each.startswith("train.jsonl:") for each in names)


def test_a_run_tells_perplexity_before_and_after(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    training = {"epochs": 30, "batch_tokens": 256, "learning_rate": 2e-2}
    project = _project(tmp_path, base, _texts(), training=training)
    result = run_project(project, out=tmp_path / "run", sink=no_sink)
    found = result["held_out"]
    assert found["tuned_perplexity"] == pytest.approx(math.exp(found["tuned_loss"]))
    assert found["tuned_perplexity"] < 0.7 * found["base_perplexity"]


def test_general_rows_count_by_their_tokens_like_the_texts(base: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "replay": 0.2}
    project = _project(tmp_path, base, _texts(), data=data)
    prepared = prepare(project, no_sink)
    assert prepared.data.n_replayed > 0
    assert REPLAYED not in prepared.data.together().columns
    train_project(project, out=tmp_path / "run", sink=no_sink)


class _Stop(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_bits(base: Path, tmp_path: Path) -> None:
    project = _project(tmp_path, base, _texts())
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


def test_empty_texts_are_left_out_and_named(base: Path, tmp_path: Path) -> None:
    rows = _texts(12)
    rows[2]["text"] = "   "
    seen: list[Event] = []
    prepare(_project(tmp_path, base, rows), seen.append)
    warned = "\n".join(event.message for event in seen if isinstance(event, Warned))
    assert "left out: " in warned
    assert "train.jsonl:3" in warned


def test_conversations_are_refused_with_what_learns_from_them(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`pretrain` learns from plain texts") as error:
        prepare(_project(tmp_path, base, [{"user": "a?", "assistant": "b."}]), no_sink)
    assert "`objective: sft`" in str(error.value)


def _mixed(folder: Path, base: Path, weights: dict[str, float], **spec: Any) -> Project:
    project = _project(folder, base, _texts(), data={"train": weights}, **spec)
    write_lines(folder / "long.jsonl", [{"text": "z" * 60 + " " + "y" * at} for at in range(20)])
    return project


def test_files_share_an_epochs_tokens_by_their_weights(base: Path, tmp_path: Path) -> None:
    project = _mixed(tmp_path, base, {"train.jsonl": 1, "long.jsonl": 3})
    prepared = prepare(project, no_sink)
    items = Items.of(prepared.data.rows)
    (n_first, _), (n_second, _) = prepared.data.sources
    assert n_first + n_second == len(items)
    settings = SETTINGS.model_copy(update={"batch_tokens": 256, "epochs": 3})
    plan = Plan(prepared.data, settings)
    drawn = []
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        chosen = [at for step in steps for batch in plan.micro_batches(step) for at in batch]
        tokens = np.array([items.lengths[at] for at in chosen])
        is_second = np.array(chosen) >= n_first
        assert tokens[is_second].sum() / tokens.sum() == pytest.approx(0.75, abs=0.05)
        assert tokens.sum() == pytest.approx(items.n_tokens, rel=0.1)
        counts = np.bincount(np.array(chosen)[is_second] - n_first, minlength=n_second)
        assert counts.max() - counts.min() <= 1  # none is left out for another's sake
        drawn.append(set(np.array(chosen)[~is_second].tolist()))
    assert drawn[0] != drawn[1]  # of what is not taken whole, each epoch takes other texts
    assert prepared.data.name_row is not None
    assert prepared.data.name_row(n_first).startswith("long.jsonl:")
    held_out = prepared.data.name_held_out
    assert held_out is not None
    names = {held_out(at).split(":")[0] for at in range(len(prepared.data.validation or []))}
    assert names == {"train.jsonl", "long.jsonl"}


def test_a_mixture_is_trained_and_other_weights_are_another_run(base: Path, tmp_path: Path) -> None:
    project = _mixed(tmp_path, base, {"train.jsonl": 1, "long.jsonl": 3})
    result = train_project(project, out=tmp_path / "run", sink=no_sink).result
    assert result["validation_loss"] < result["base_validation_loss"]
    other = _mixed(tmp_path, base, {"train.jsonl": 1, "long.jsonl": 2})
    with pytest.raises(RunError, match="another spec, other data"):
        train_project(other, out=tmp_path / "run", resume=True, sink=no_sink)


def test_only_texts_are_mixed(base: Path, tmp_path: Path) -> None:
    path = write_project(tmp_path, base, data={"train": {"a.jsonl": 1, "b.jsonl": 1}})
    with pytest.raises(SpecError, match="objective: pretrain"):
        load_project(path)
    for weights in ({"a.jsonl": 1}, {"a.jsonl": 1, "b.jsonl": 0}):
        path = write_project(tmp_path, base, objective="pretrain", data={"train": weights})
        with pytest.raises(SpecError, match=r"data\.train"):
            load_project(path)
