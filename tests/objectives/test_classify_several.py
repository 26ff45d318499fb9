"""Several labels per text: the loss, thresholds, training to a report; and what may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.objectives.cases import random_several, small_head
from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import packed_model, save_model
from tunefork.core.errors import DataError, SpecError
from tunefork.core.events import no_sink
from tunefork.data import Items, Message, read_labelled
from tunefork.evaluation.bag_of_words import bag_of_several
from tunefork.evaluation.classification import NOTHING, several_results
from tunefork.evaluation.thresholds import best_thresholds, cross_fitted
from tunefork.inference import Classifier
from tunefork.models import collate
from tunefork.objectives import ClassifySeveral, label_weights
from tunefork.workflow import run as run_module
from tunefork.workflow.opened import open_model
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project

_TRAINING = {"epochs": 12, "batch_tokens": 256, "learning_rate": 2e-2}
_WORDS = {"cat": "purrs", "dog": "barks", "hen": "clucks"}


def _rows(count: int = 60, separator: str | None = None) -> list[dict[str, Any]]:
    names = list(_WORDS)
    rows = []
    for at in range(count):
        own = [name for place, name in enumerate(names) if (at >> place) & 1]
        text = f"{THINGS[at % 12]} {'abcdefgh'[at % 7]} " + " ".join(_WORDS[name] for name in own)
        rows.append({"text": text, "labels": own if separator is None else separator.join(own)})
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("several") / "base")


def _project(folder: Path, base: Path, rows: list[dict[str, Any]], **objective: Any) -> Project:
    path = write_project(
        folder,
        base,
        objective={"name": "classify", "labels": "several", **objective},
        strategy={"name": "lora", "rank": 4},
        training=_TRAINING,
        golden=None,
    )
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


@torch.no_grad()
def test_the_loss_is_that_of_each_label_for_itself() -> None:
    model, head = packed_model("llama"), small_head(3)
    weights = torch.tensor([0.5, 1.0, 2.0])
    objective = ClassifySeveral(head=head, weights=weights)
    items = objective.arrange(random_several(6))
    batch = collate(items, range(6))
    found = objective.loss(model, batch)
    logits, has = head.of(model, batch).double(), batch.columns["label"].double()
    shares = torch.sigmoid(logits)
    naive = -(weights * has * shares.log() + (1 - has) * (1 - shares).log()).sum()
    assert float(found.total) == pytest.approx(float(naive), rel=1e-5)
    assert float(found.weight) == 6
    right = ((shares > 0.5) == (has > 0)).double().mean()
    assert float(found.metrics["accuracy"]) / 6 == pytest.approx(float(right))


def test_rare_labels_weigh_more_where_that_is_asked_for() -> None:
    has = np.zeros((10, 2), np.float32)
    has[:1, 0], has[:5, 1] = 1, 1
    assert label_weights(has, 0).tolist() == [1, 1]
    assert label_weights(has, 1).tolist() == pytest.approx([9, 1])


def test_a_run_reports_each_label_and_answers_with_all_that_fit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    project = _project(tmp_path, base, _rows(120))
    found = run_project(project, out=tmp_path / "run", sink=no_sink)["classification"]
    assert [each["label"] for each in found["labels"]] == ["cat", "dog", "hen"]
    assert found["micro_f1"] > 0.9
    assert found["macro_f1"] > 0.9
    assert found["bag_of_words"]["micro_f1"] > 0.9  # one word gives each label away
    assert set(found["thresholds"]) == {"cat", "dog", "hen"}
    assert sum(each["count"] for each in found["calibration"]["bins"]) == 3 * found["texts"]
    assert "micro F1" in (tmp_path / "run" / "report.html").read_text()
    chat = open_model(str(tmp_path / "run")).chat
    assert isinstance(chat, Classifier)
    asked = [[Message("user", f"cat a {what}".strip())] for what in ("purrs clucks", "barks", "")]
    assert [set(filter(None, each.answer.split(", "))) for each in chat.classify(asked)] == [
        {"cat", "hen"},
        {"dog"},
        set(),
    ]
    assert "none (at most" in str(chat.classify(asked)[2])


def test_a_separator_and_a_list_are_the_same(base: Path, tmp_path: Path) -> None:
    listed = write_lines(tmp_path / "a.jsonl", _rows(12))
    written = write_lines(tmp_path / "b.jsonl", _rows(12, " | "))
    found = read_labelled(listed, is_several=True)
    assert found.labels == read_labelled(written, is_several=True, separator="|").labels
    assert found.labels[:4] == ((), ("cat",), ("dog",), ("cat", "dog"))
    prepared = prepare(_project(tmp_path / "p", base, _rows(60, " | "), separator="|"), no_sink)
    columns = Items.of(prepared.data.rows).columns["label"]
    assert columns.shape == (len(prepared.data.rows), 3)
    assert any(not row.any() for row in columns)  # a text without a label is one to learn from


def test_texts_of_several_labels_are_refused_where_one_is_asked_for(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="has 2 labels, and one is asked for") as error:
        prepare(_project(tmp_path, base, _rows()[3:], labels="one"), no_sink)
    assert "labels: several" in str(error.value.hint)
    assert "train.jsonl:1" in str(error.value.where)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"form": "generate"}, "form: generate"),
        ({"out_of_scope": 0.1}, "out_of_scope"),
        ({"labels": "one", "separator": "|"}, "separator"),
    ],
)
def test_settings_that_do_not_go_together(
    objective: dict[str, Any], message: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=message):
        _project(tmp_path, base, _rows(), **objective)


def test_a_label_of_no_text_that_is_trained_on_is_named(base: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{thing} {at}", "labels": []} for at, thing in enumerate("abcdefghi")]
    with pytest.raises(DataError, match="no label, so there is nothing to tell apart"):
        prepare(_project(tmp_path, base, rows), no_sink)


def test_results_against_counts_by_hand() -> None:
    has = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    given = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]], bool)
    found = several_results(["a", "b", "c"], has, given)
    assert found.accuracy == pytest.approx(2 / 4)
    assert [each.f1 for each in found.labels] == [1, 0, 0]
    assert found.micro_f1 == pytest.approx(2 * 2 / (4 + 3))
    assert found.macro_f1 == pytest.approx(1 / 2)  # of the labels that some text has
    confusions = [(each.label, each.given, each.count) for each in found.confusions]
    assert sorted(confusions) == [("b", NOTHING, 1), ("b", "c", 1)]


def test_thresholds_are_those_of_the_best_f1() -> None:
    random = np.random.default_rng(0)
    has = random.random((60, 1)) < 0.4
    shares = np.clip(0.3 * has + 0.5 * random.random((60, 1)), 0, 1)
    best = best_thresholds(shares, has)[0]

    def f1(threshold: float) -> float:
        given = shares[:, 0] >= threshold
        return float(2 * (given & has[:, 0]).sum() / (given.sum() + has.sum()))

    assert f1(best) == pytest.approx(max(f1(each) for each in np.linspace(0, 1, 2001)))
    few = np.zeros((60, 1), bool)
    few[:2] = True
    assert best_thresholds(shares, few)[0] == 0.5  # two texts say nothing


def test_thresholds_are_not_judged_by_the_texts_that_they_came_from() -> None:
    random = np.random.default_rng(1)
    shares, has = random.random((40, 30)), random.random((40, 30)) < 0.5
    flattering = shares >= best_thresholds(shares, has)
    honest = cross_fitted(shares, has)
    names = [f"{number}" for number in range(30)]
    assert (
        several_results(names, has, honest).micro_f1
        < several_results(names, has, flattering).micro_f1
    )


def test_the_linear_classifier_learns_each_label() -> None:
    texts = ["red", "blue", "red blue", "green"] * 6
    has = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 6, np.float64)
    found = bag_of_several(texts, has, ["a red one", "a red and a blue one", "a green one"])
    assert (found > 0.5).tolist() == [[True, False], [True, True], [False, False]]
