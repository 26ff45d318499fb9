"""Labels by their names: the probability of each against the model's own, and training to use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.projects import THINGS, small_probe, write_lines, write_project
from tests.small import plain_model, save_model
from tunefork.core.events import no_sink
from tunefork.data import Message, Rendered, Renderer, TokenRows, load_tokenizer
from tunefork.inference import Classifier, Decoding, NameScorer
from tunefork.models import find_base, load_model
from tunefork.workflow import run as run_module
from tunefork.workflow.opened import open_model
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import load_project

_WHAT = {"cat": "purrs", "catfish": "swims", "dog": "barks"}  # one name begins like another


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("names") / "base")


def test_probabilities_are_those_of_whole_names_among_the_labels(base: Path) -> None:
    """Each name alone behind each text, with transformers' own model."""
    renderer = Renderer(load_tokenizer(base), None)
    labels = list(_WHAT)
    scorer = NameScorer.of(renderer, labels)
    texts = ["a cat purrs", "swims", "one that barks and barks, and does not end"]
    prompts = [renderer.prompt((Message("user", text),)) for text in texts]
    rows = TokenRows.from_rendered(Rendered(ids, [0.0] * len(ids)) for ids in prompts)
    found = scorer(load_model(find_base(str(base))), rows)
    plain, naive = plain_model("llama"), []
    for ids in prompts:
        sums = []
        for name in scorer.names:
            whole = torch.tensor([[*ids, *name]])
            with torch.no_grad():
                shares = plain(whole).logits[0].log_softmax(-1)
            places = range(len(ids), len(ids) + len(name))
            sums.append(sum(float(shares[at - 1, whole[0, at]]) for at in places))
        naive.append(sums)
    expected = torch.tensor(naive).softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-3)  # weights rounded to bf16
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    ends = {name[-1] for name in scorer.names}
    assert ends == set(renderer.end_ids)  # so that `cat` is not the beginning of `catfish`


def test_the_model_learns_to_write_labels_and_writes_nothing_else(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    names = list(_WHAT)
    rows = [
        {
            "text": f"{THINGS[at % 12]} {'abcdefgh'[at % 8]} {_WHAT[names[at % 3]]}",
            "label": names[at % 3],
        }
        for at in range(60)
    ]
    path = write_project(
        tmp_path,
        base,
        objective={"name": "classify", "form": "generate", "out_of_scope": 0.2},
        strategy="full",
        training={"epochs": 20, "batch_tokens": 256, "learning_rate": 5e-3},
        golden=None,
    )
    write_lines(tmp_path / "train.jsonl", rows)
    result = run_project(load_project(path), out=tmp_path / "run", sink=no_sink)
    found = result["classification"]
    assert found["accuracy"] > 0.8
    assert 0 < found["out_of_scope"]["threshold"] < 1
    assert not (tmp_path / "run" / "model" / "head.safetensors").exists()
    chat = open_model(str(tmp_path / "run")).chat
    assert isinstance(chat, Classifier)
    told = chat.classify([[Message("user", row["text"])] for row in rows[:6]])
    assert np.mean([each.best.name == row["label"] for each, row in zip(told, rows, strict=False)])
    strange = chat.answer([[Message("user", "?!" * 90)]], Decoding(max_new_tokens=4))[0].text
    assert strange in {*names, ""}  # longer than the base takes, and about nothing
