"""A proof card holds for what it names, and for nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import call
from tests.projects import write_lines
from tunefork.core.errors import DataError, RunError, UsageError
from tunefork.core.events import Event, Warned, no_sink
from tunefork.core.files import home, write_json
from tunefork.models import find_base
from tunefork.registry import own_key, read_key, sign
from tunefork.workflow.proof import card_of, verify_card, write_card
from tunefork.workflow.runs import RunFolder

_RESULT: dict[str, Any] = {
    "verdict": "ship",
    "reasons": ["It is better."],
    "scores": {"base": {"score": 0.1, "low": 0.0, "high": 0.2}},
    "gain": 0.5,
    "p_value": 0.001,
    "forgetting": 0.01,
    "seconds": 3.0,
    "report": "/somewhere/private/report.html",
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run folder as a finished run on the bundled base leaves it."""
    data = write_lines(tmp_path / "data" / "train.jsonl", [{"user": "a", "assistant": "b"}])
    golden = write_lines(tmp_path / "data" / "golden.jsonl", [{"question": "a", "reference": "b"}])
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "adapter_model.safetensors").write_bytes(b"weights")
    spec = {
        "goal": "says b",
        "base": "tiny",
        "data": {"train": str(data), "validation": None, "documents": None},
        "golden": str(golden),
        "strategy": {"name": "lora"},
    }
    record = {
        "base": {"name": "tiny", "hash": find_base("tiny").hash(), "bytes": 5},
        "data_hash": "sha256:00",
        "rows": {"training": 1, "replayed": 0, "validation": 0},
        "code_hash": "sha256:11",
        "environment": {"tunefork": "1"},
    }
    write_json(folder / "spec.json", spec)
    write_json(folder / "record.json", record)
    write_json(folder / "evaluation.json", {**_RESULT, "answers": []})
    return RunFolder(folder, "")


@pytest.fixture
def card(run: RunFolder) -> Path:
    path = write_card(run, _RESULT, no_sink)
    assert path is not None
    return Path(path)


def _states(found: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["state"] for each in found["checked"]}


def test_a_card_in_its_run_folder_is_checked_against_all_that_it_names(card: Path) -> None:
    found = verify_card(card)
    assert found["sound"]
    assert found["signer"] == "own"
    assert found["verdict"] == "ship"
    assert set(_states(found).values()) == {"same"}
    assert len(found["checked"]) == 4


def test_a_card_alone_tells_what_was_not_looked_at_and_names_no_place(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "elsewhere" / "card.json"
    alone.parent.mkdir()
    shutil.copy(card, alone)
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "another"))
    found = verify_card(alone)
    assert found["sound"]
    assert found["signer"] == "unknown"
    assert _states(found) == {
        "model": "not given",
        "base": "same",  # it comes with the program
        "training data": "not given",
        "golden questions": "not given",
    }
    assert str(tmp_path) not in alone.read_text()
    assert "private" not in alone.read_text()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda run: (run / "model" / "adapter_model.safetensors").write_bytes(b"w"), "altered"),
        (lambda run: (run / "model" / "adapter_model.safetensors").unlink(), "missing"),
        (lambda run: (run.parent / "data" / "train.jsonl").write_text("{}"), "altered"),
        (lambda run: (run.parent / "data" / "golden.jsonl").write_text("{}"), "altered"),
    ],
)
def test_what_is_not_as_it_was_is_named(
    card: Path, run: RunFolder, damage: Callable[[Path], Any], what: str
) -> None:
    damage(run.path)
    found = verify_card(card)
    assert not found["sound"]
    assert sorted(_states(found).values()) == sorted([what, "same", "same", "same"])


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_any_change_breaks_the_signature(card: Path) -> None:
    whole = json.loads(card.read_text())
    for name in whole:
        if name in ("signature", "signed_by"):
            continue
        _change(card, **{**whole, name: "other"})
        with pytest.raises(DataError, match="changed after it was signed"):
            verify_card(card)
    card.write_text(json.dumps({**whole, "more": 1}))
    with pytest.raises(DataError, match="changed after it was signed"):
        verify_card(card)
    card.write_text(json.dumps({**whole, "goal": "\ud800"}))
    with pytest.raises(DataError, match="changed after it was signed"):
        verify_card(card)
    card.write_text(json.dumps(whole, indent=1))  # another layout says the same
    assert verify_card(card)["sound"]


def test_another_key_is_told_apart_from_a_tampered_card(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = own_key()
    assert mine is not None
    assert verify_card(card, key=mine)["signer"] == "asked for"
    assert read_key(str(home() / "keys" / "signing.pub")) == mine
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "another"))
    assert own_key() is None
    other = str(sign({"any": "thing"})["signed_by"])
    with pytest.raises(DataError, match="signed by another key"):
        verify_card(card, key=other)
    # Whoever changes a card and signs it anew has another key.
    body = {k: v for k, v in json.loads(card.read_text()).items() if not k.startswith("sign")}
    card.write_text(json.dumps(sign({**body, "model": "mine"})))
    assert verify_card(card)["signer"] == "own"
    with pytest.raises(DataError, match="signed by another key"):
        verify_card(card, key=mine)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a card"),
        ("[1]", "no JSON object"),
        ("{}", "not signed: `signed_by` and `signature` missing"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"signed_by": "ed25519:AAAA", "signature": "AAAA"}', "not an Ed25519 public key"),
        ("[" * 100_000, "not a card"),
        (" " * (1 << 21), "too large"),
    ],
)
def test_what_is_no_card_says_so(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        verify_card(path)


def test_a_card_of_another_shape_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_json(path, sign({"card": 1, "model": "m"}))
    with pytest.raises(DataError, match="its `base` is missing"):
        verify_card(path)
    names = ("model", "base", "adapter", "data", "golden", "environment")
    parts: dict[str, Any] = {name: {} for name in names}
    write_json(path, sign({"card": 1, **parts, "result": {}}))
    with pytest.raises(DataError, match="not whole"):
        verify_card(path)
    write_json(path, sign({"card": 9, **parts, "result": {}}))
    with pytest.raises(DataError, match="version 9"):
        verify_card(path)


def test_the_private_key_is_its_owners_alone_and_stays(card: Path) -> None:
    path = home() / "keys" / "signing.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["signing.pem", "signing.pub"]
    before = own_key()
    sign({"any": "thing"})
    assert own_key() == before


def test_a_key_that_cannot_be_read_costs_a_run_its_card_and_no_more(run: RunFolder) -> None:
    path = home() / "keys" / "signing.pem"
    path.parent.mkdir(parents=True)
    path.write_text("no key")
    events: list[Event] = []
    assert write_card(run, _RESULT, events.append) is None
    assert [event for event in events if isinstance(event, Warned)]
    with pytest.raises(RunError, match="cannot be read"):
        card_of(str(run.path))


def test_a_card_is_written_anew_from_what_was_measured(run: RunFolder, tmp_path: Path) -> None:
    path = card_of(str(run.path), tmp_path / "mine.json")
    assert json.loads(path.read_text())["result"]["gain"] == 0.5
    assert card_of(str(run.path / "model")) == run.path / "card.json"
    (run.path / "evaluation.json").unlink()
    with pytest.raises(RunError, match="not measured"):
        card_of(str(run.path))
    with pytest.raises(RunError, match="no run"):
        card_of("nothing")


def test_several_training_files_have_a_hash_each(run: RunFolder, tmp_path: Path) -> None:
    spec = json.loads(run.spec_file.read_text())
    other = write_lines(tmp_path / "data" / "more.jsonl", [{"text": "a"}])
    spec["data"]["train"] = {spec["data"]["train"]: 1.0, str(other): 2.0}
    write_json(run.spec_file, spec)
    path = write_card(run, _RESULT, no_sink)
    assert path is not None
    assert sorted(json.loads(Path(path).read_text())["data"]["files"]) == ["train 1", "train 2"]
    assert verify_card(Path(path))["sound"]


def test_keys_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ed25519:short")
    for given in ("ed25519:", "nowhere", str(tmp_path / "key")):
        with pytest.raises(UsageError):
            read_key(given)


def test_the_command_line_tells_sound_from_altered(card: Path, run: RunFolder) -> None:
    key = home() / "keys" / "signing.pub"
    found = call("verify", card, "--key", key, "--json")
    assert found.code == 0
    assert found.json["signer"] == "asked for"
    assert call("card", run.path, "--json").json == {"card": str(card)}
    (run.model / "adapter_model.safetensors").write_bytes(b"other")
    altered = call("verify", card)
    assert altered.code == 1
    assert "altered    model/adapter_model.safetensors" in altered.out
    assert call("verify", "--key", key).code == 2
    assert call("verify", card, "--data", "nowhere.jsonl").code == 1
    assert call("verify", card, "--data", run.record_file, "--json").json["sound"] is False
    _change(card, goal="other")
    changed = call("verify", card)
    assert changed.code == 1
    assert "changed after it was signed" in changed.err
