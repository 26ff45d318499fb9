"""Labels: the head and its folder, training to a report, answering; and what may be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from torch.nn import functional

from tests.objectives.cases import random_labelled, small_head
from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import packed_model, plain_model, random_rows, save_model
from tunefork.core.errors import DataError, ModelError
from tunefork.core.events import CheckpointSaved, Event, Warned, no_sink
from tunefork.data import Items, Rendered, TokenRows
from tunefork.evaluation.bag_of_words import bag_of_words
from tunefork.evaluation.calibration import calibration
from tunefork.evaluation.classification import label_results
from tunefork.inference import Classifier, HeadScorer
from tunefork.models import collate, run_on
from tunefork.objectives import Classify, class_weights
from tunefork.workflow import run as run_module
from tunefork.workflow.evaluate import evaluate
from tunefork.workflow.opened import open_model
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.talk import Conversation
from tunefork.workflow.train import train_project

_TRAINING = {"epochs": 6, "batch_tokens": 256, "learning_rate": 1e-2}
_STRATEGIES = [{"name": name} for name in ("full", "lora", "prefix", "bottleneck")]
_WHAT = {"cat": "purrs", "dog": "barks", "hen": "clucks"}


def _texts(count: int = 48) -> list[dict[str, Any]]:
    names = list(_WHAT)
    return [
        {
            "text": f"{THINGS[at % 12]} {'abcdefgh'[at % 8]} {_WHAT[names[at % 3]]}",
            "label": names[at % 3],
        }
        for at in range(count)
    ]


def _label_of(text: str) -> str:
    return next(name for name, what in _WHAT.items() if text.endswith(what))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("classify") / "base")


def _project(folder: Path, base: Path, rows: list[dict[str, Any]], **spec: Any) -> Project:
    given = {
        "objective": "classify",
        "strategy": {"name": "lora", "rank": 4},
        "training": _TRAINING,
        "golden": None,
        **spec,
    }
    path = write_project(folder, base, **given)
    write_lines(folder / "train.jsonl", rows)
    return load_project(path)


def test_the_loss_is_the_weighed_cross_entropy_at_each_last_token() -> None:
    model, plain, head = packed_model("llama"), plain_model("llama"), small_head(3)
    weights = torch.tensor([0.5, 1.0, 2.0])
    objective = Classify(head=head, weights=weights)
    items = objective.arrange(random_labelled(5))
    found = objective.loss(model, collate(items, range(5)))
    total = torch.zeros(())
    for number in range(5):
        ids, trained = items.rows.row(number)
        assert not trained.any()
        whole = torch.from_numpy(ids.astype(np.int64)).unsqueeze(0)
        hidden = plain.model(input_ids=whole, use_cache=False).last_hidden_state[0, -1]
        label = number % 3
        loss = functional.cross_entropy(head.weight @ hidden, torch.tensor(label))
        total = total + weights[label] * loss
    torch.testing.assert_close(found.total, total)
    assert float(found.weight) == pytest.approx(0.5 + 1 + 2 + 0.5 + 1)


def test_weights_balance_labels_and_are_one_on_average() -> None:
    labels = np.array([0] * 8 + [1] * 2, np.float32)
    torch.testing.assert_close(class_weights(labels, 2, 0), torch.ones(2))
    full = class_weights(labels, 2, 1)
    assert full[0] * 8 == pytest.approx(float(full[1] * 2))
    for balance in (0.0, 0.5, 1.0):
        weights = class_weights(labels, 2, balance)
        assert float(weights[labels].mean()) == pytest.approx(1)


@pytest.mark.parametrize("strategy", _STRATEGIES)
def test_any_strategy_learns_labels_and_is_opened_again(
    strategy: Any, base: Path, tmp_path: Path
) -> None:
    rate = 2e-3 if strategy["name"] == "full" else 2e-2
    training = {"epochs": 10, "batch_tokens": 256, "learning_rate": rate}
    project = _project(tmp_path, base, _texts(), strategy=strategy, training=training)
    trained = train_project(project, out=tmp_path / "run", sink=no_sink)
    result, prepared = trained.result, trained.prepared
    assert result["validation_loss"] < result["base_validation_loss"]
    assert prepared is not None
    assert prepared.labelling is not None
    opened = open_model(str(tmp_path / "run"))
    assert isinstance(opened.chat, Classifier)
    assert opened.chat.labels == ("cat", "dog", "hen")
    golden = [
        {"question": text, "reference": _label_of(text), "grader": "exact"}
        for text in prepared.labelling.held_out
    ]
    path = write_lines(tmp_path / "questions.jsonl", golden)
    score = evaluate(str(tmp_path / "run"), path, no_sink)["score"]
    assert score == pytest.approx(result["validation_metrics"]["accuracy"])


def test_a_run_reports_labels_confusions_and_a_linear_classifier(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    objective = {"name": "classify", "balance": 0.5, "out_of_scope": 0.3}
    project = _project(tmp_path, base, _texts(), objective=objective)
    found = run_project(project, out=tmp_path / "run", sink=no_sink)["classification"]
    assert [each["label"] for each in found["labels"]] == ["cat", "dog", "hen"]
    assert sum(each["texts"] for each in found["labels"]) == found["texts"] > 0
    assert found["bag_of_words"]["accuracy"] == 1  # one word gives each label away
    assert found["out_of_scope"]["threshold"] > 0
    assert found["out_of_scope"]["texts"] <= found["texts"] / 2
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Linear on words" in page
    told = Conversation(str(tmp_path / "run")).ask(_texts()[0]["text"])["answer"]
    assert "%)" in told


class _Stop(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_bits(base: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "replay": 0.2}
    project = _project(tmp_path, base, _texts(), data=data)
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


def test_peft_and_transformers_compute_the_same_labels(base: Path, tmp_path: Path) -> None:
    train_project(_project(tmp_path, base, _texts()), out=tmp_path / "run", sink=no_sink)
    opened = open_model(str(tmp_path / "run"))
    assert isinstance(opened.chat, Classifier)
    assert isinstance(opened.chat.scorer, HeadScorer)
    other = transformers.AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, dtype=torch.float32
    )
    theirs = peft.PeftModel.from_pretrained(other, tmp_path / "run" / "model").eval()
    rows = random_rows(4)
    for number in range(4):
        ids = rows.row(number)[0]
        alone = TokenRows.from_rendered([Rendered(ids.tolist(), [0.0] * len(ids))])
        with torch.no_grad():
            ours = opened.chat.scorer.head.of(opened.chat.model, collate(Items(alone), [0]))
            logits = theirs(torch.from_numpy(ids.astype(np.int64)).unsqueeze(0)).logits
        torch.testing.assert_close(ours.float(), logits, rtol=2e-2, atol=2e-2)


def test_the_base_beside_a_classifier_talks(base: Path, tmp_path: Path) -> None:
    train_project(_project(tmp_path, base, _texts()), out=tmp_path / "run", sink=no_sink)
    opened = open_model(str(tmp_path / "run"))
    with opened.base_chat() as chat:
        assert not isinstance(chat, Classifier)
        rows = random_rows(1)
        batch = collate(rows, [0])
        plain = open_model(str(base)).chat.model
        torch.testing.assert_close(
            run_on(chat.model, batch.ids, batch.layout), run_on(plain, batch.ids, batch.layout)
        )


def test_a_head_of_another_size_is_refused(base: Path, tmp_path: Path) -> None:
    train_project(_project(tmp_path, base, _texts()), out=tmp_path / "run", sink=no_sink)
    card = tmp_path / "run" / "model" / "tunefork.json"
    values = json.loads(card.read_text())
    values["head"]["labels"].append("cow")
    values["head"]["thresholds"].append(0.0)
    card.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="its head has the shape"):
        open_model(str(tmp_path / "run"))
    card.write_text(json.dumps({**values, "head": {"objective": "classify"}}))
    with pytest.raises(ModelError, match="damaged"):
        open_model(str(tmp_path / "run"))


def test_each_label_is_held_out_by_its_share(base: Path, tmp_path: Path) -> None:
    random, names = np.random.default_rng(0), list(_WHAT)
    rows = [
        {"text": "".join(random.choice(list("abcdefgh"), 40)), "label": names[at % 3]}
        for at in range(90)
    ]
    prepared = prepare(_project(tmp_path, base, rows), no_sink)
    assert prepared.labelling is not None
    label_of = {row["text"]: row["label"] for row in rows}
    held_out = [label_of[text] for text in prepared.labelling.held_out]
    assert {held_out.count(name) for name in _WHAT} == {3}


def test_a_single_label_is_refused(base: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": "cat"} for row in _texts(12)]
    with pytest.raises(DataError, match="nothing to tell apart"):
        prepare(_project(tmp_path, base, rows), no_sink)


def test_a_label_that_is_never_trained_is_named(base: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "validation": "other.jsonl"}
    project = _project(tmp_path, base, _texts(12), data=data)
    write_lines(tmp_path / "other.jsonl", [*_texts(3), {"text": "moos", "label": "cats"}])
    with pytest.raises(DataError, match="has the label `cats`") as error:
        prepare(project, no_sink)
    assert "other.jsonl:4" in str(error.value.where)
    assert "cat" in str(error.value.hint)


def test_results_per_label_against_counts_by_hand() -> None:
    labels, given = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2])
    found = label_results(["a", "b", "c", "d"], labels, given)
    assert found.accuracy == pytest.approx(3 / 6)
    first, second, third, last = found.labels
    assert [first.precision, first.recall] == pytest.approx([1 / 2, 1 / 3])
    assert [second.precision, second.recall] == pytest.approx([1 / 3, 1 / 2])
    assert (third.f1, last.f1, last.texts) == (1, 0, 0)
    assert found.macro_f1 == pytest.approx((0.4 + 0.4 + 1) / 3)
    assert [(each.label, each.given, each.count) for each in found.confusions] == [
        ("a", "b", 2),
        ("b", "a", 1),
    ]


def test_calibration_of_claims_that_come_true_too_seldom() -> None:
    found = calibration([0.95] * 10 + [0.25] * 4 + [1.0], [1] * 5 + [0] * 5 + [1, 0, 0, 0] + [1])
    assert found.error == pytest.approx((11 * abs((0.95 * 10 + 1) / 11 - 6 / 11)) / 15)
    assert [each.count for each in found.bins] == [4, 11]


def test_the_linear_classifier_learns_words_and_their_order() -> None:
    texts = ["red then blue", "blue then red"] * 6
    labels = np.array([0, 1] * 6)
    given = bag_of_words(texts, labels, ["a red then blue one", "a blue then red one", "unknown"])
    assert given[:2].tolist() == [0, 1]


def test_a_label_without_held_out_texts_and_a_long_text_are_no_faults(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    data = {"train": "train.jsonl", "validation": "other.jsonl"}
    rows = [*_texts(24), {"text": "purrs " * 40, "label": "cat"}]
    training = {**_TRAINING, "epochs": 1, "max_length": 90}
    project = _project(tmp_path, base, rows, data=data, training=training)
    write_lines(tmp_path / "other.jsonl", [row for row in _texts(12) if row["label"] != "hen"])
    seen: list[Event] = []
    result = run_project(project, out=tmp_path / "run", sink=seen.append)
    found = {each["label"]: each for each in result["classification"]["labels"]}
    assert found["hen"]["texts"] == 0
    assert found["cat"]["texts"] == found["dog"]["texts"] == 4
    warned = "\n".join(event.message for event in seen if isinstance(event, Warned))
    assert "longer than 90 tokens, left out" in warned
    assert "train.jsonl:25" in warned
    told = Conversation(str(tmp_path / "run")).ask("purrs " * 400)["answer"]  # its end is looked at
    assert "%)" in told


@pytest.mark.parametrize("label", [None, "", 1.5, ["cat", None]])
def test_a_text_without_its_label_is_named(label: Any, base: Path, tmp_path: Path) -> None:
    rows = [*_texts(5), {"text": "moos", "label": label}]
    with pytest.raises(DataError, match="`label` must be the name of a label") as error:
        prepare(_project(tmp_path, base, rows), no_sink)
    assert "train.jsonl:6" in str(error.value.where)
