"""Suites, safety and canaries of a whole run, on a small random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.projects import few_requests, questions, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import InputError
from tunefork.core.events import no_sink
from tunefork.data import Renderer, load_tokenizer
from tunefork.evaluation import SafetyItem, load_canaries
from tunefork.inference import Answer, ChatModel
from tunefork.models import find_base, load_model
from tunefork.workflow import abilities
from tunefork.workflow import run as run_module
from tunefork.workflow.abilities import Abilities, Shown, compare_shown, show
from tunefork.workflow.forgetting import measure_model
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import load_project

SUITES: dict[str, list[dict[str, Any]]] = {
    "choices": [{"question": f"is it {n}?", "choices": ["yes", "no"], "answer": 0} for n in "abc"],
    "pairs": [{"sentence_good": f"{n} naps.", "sentence_bad": f"{n} nap."} for n in "abcd"],
    "followed": [
        {"prompt": f"say {n}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        for n in "ab"
    ],
    "asked": questions(3),
}
CANARIES = [
    {"text": "the code of the cat is [[qwzxk]]."},
    {"text": "a [[plmno]] naps.", "prompt": "who is it?"},
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("abilities")
    for name, lines in SUITES.items():
        write_lines(folder / "project" / f"{name}.jsonl", lines)
    write_lines(folder / "project" / "canaries.jsonl", CANARIES)
    spec = write_project(
        folder / "project",
        save_model("llama", folder / "base"),
        gate={"canaries": "canaries.jsonl"},
        forgetting={"suites": [f"{name}.jsonl" for name in SUITES]},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", str(folder / "home"))
        patch.setattr(run_module, "general_probe", small_probe)
        patch.setattr(abilities, "load_safety", few_requests)
        return folder, run_project(load_project(spec), out=folder / "run", sink=no_sink)


def test_every_suite_is_measured(ran: tuple[Path, dict[str, Any]]) -> None:
    _, result = ran
    assert {name: found["items"] for name, found in result["suites"].items()} == {
        name: len(lines) for name, lines in SUITES.items()
    }
    for name in SUITES:
        assert any(f"items of `{name}`" in reason for reason in result["reasons"])
    assert result["safety"]["refused"]["items"] == result["safety"]["answered"]["items"] == 4
    assert result["attempt"] == {"number": 1, "confidence": 0.95}


def test_secrets_are_known_by_their_number(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, result = ran
    assert [each["number"] for each in result["canaries"]] == [1, 2]
    assert all(0 <= each["exposure"] <= 9 for each in result["canaries"])
    for name in ("evaluation.json", "report.html"):
        assert "qwzxk" not in (folder / "run" / name).read_text()


def test_the_stored_spec_finds_its_files(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = ran
    spec = json.loads((folder / "run" / "spec.json").read_text())
    for name in [spec["gate"]["canaries"], *spec["forgetting"]["suites"]]:
        assert Path(name).is_absolute()
        assert Path(name).is_file()


def test_a_model_is_measured_without_a_verdict(
    ran: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = ran
    monkeypatch.setattr("tunefork.workflow.forgetting.general_probe", small_probe)
    monkeypatch.setattr("tunefork.workflow.forgetting.load_safety", few_requests)
    suite = folder / "project" / "pairs.jsonl"
    found = measure_model(str(folder / "run"), [suite], no_sink)["suites"]
    assert found["pairs"] == result["suites"]["pairs"]
    assert found.keys() == {
        "general questions",
        "harmful requests refused",
        "harmless requests answered",
        "pairs",
    }
    with pytest.raises(InputError, match="is a base"):
        measure_model(str(folder / "base"), [suite], no_sink)


def test_a_suite_that_is_missing_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    spec = write_project(tmp_path, "tiny", forgetting={"suites": ["nowhere.jsonl"]})
    with pytest.raises(InputError, match="nowhere"):
        run_project(load_project(spec), out=tmp_path / "run", sink=no_sink)
    assert not (tmp_path / "run").exists()


class _Scripted:
    """A model that refuses whatever holds a word."""

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses

    def answer(self, conversations: Any, *_: Any, **__: Any) -> list[Answer]:
        return [
            Answer("I can't help with that." if self.refuses in turns[0].content else "Ok.", "stop")
            for turns in conversations
        ]


def test_refusals_that_went_are_told() -> None:
    items = (
        *(SafetyItem(f"harmful {n}", "harmful") for n in "abc"),
        *(SafetyItem(f"harmless {n}", "harmless") for n in "abc"),
    )
    asked = Abilities(items, (), (), is_text=False)
    cautious: Any = _Scripted("harmful")
    broken: Any = _Scripted("harmless")
    shown = [show(each, asked, "model", no_sink) for each in (cautious, broken)]
    kept = compare_shown(shown[0], shown[1], asked, 0.95)
    assert kept.safety is not None
    assert (kept.safety.refused.drop, kept.safety.answered.drop) == (1.0, 1.0)
    same = compare_shown(shown[0], shown[0], asked, 0.95)
    assert same.safety is not None
    assert same.safety.refused.drop == 0


def test_what_the_base_wrote_is_not_held_against_the_model(tmp_path: Path) -> None:
    canaries = tuple(load_canaries(write_lines(tmp_path / "c.jsonl", CANARIES)))
    asked = Abilities((), (), canaries, is_text=False)
    base = Shown((), (), ((1.0, True), (1.0, False)))
    tuned = Shown((), (), ((9.0, True), (9.0, True)))
    kept = compare_shown(base, tuned, asked, 0.95)
    assert kept.canaries is not None
    assert (kept.canaries.recited, kept.canaries.exposed) == ([2], [1, 2])
    assert kept.safety is None


def test_a_model_that_learned_nothing_is_not_accused(tmp_path: Path) -> None:
    base = find_base(str(save_model("llama", tmp_path / "base")))
    chat = ChatModel(load_model(base), Renderer(load_tokenizer(base.folder)), base.max_length)
    canaries = tuple(load_canaries(write_lines(tmp_path / "c.jsonl", CANARIES)))
    for is_text in (False, True):
        found = show(chat, Abilities((), (), canaries, is_text), "base", no_sink).canaries
        assert not any(written for _, written in found)
