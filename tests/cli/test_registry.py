"""From `train` and `run` into the registry, and all that the command line does with it there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command import Called, call
from tests.projects import files_of, rows, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.events import Event, Warned
from tunefork.workflow import replay as replay_module
from tunefork.workflow import run as run_module
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import train_project


@dataclass(frozen=True)
class _Made:
    """A home with two runs of one project, the second after its data had changed."""

    home: Path
    spec: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> _Made:
    folder = tmp_path_factory.mktemp("registry")
    base = save_model("llama", folder / "base")
    spec = write_project(
        folder / "shop", base, training={"epochs": 1, "batch_tokens": 256}, strategy="lora"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", str(folder / "home"))
        patch.setattr(run_module, "general_probe", small_probe)
        first = call("run", spec, "--json")
        assert first.err.count("registry") == 0, first.err
        write_lines(spec.parent / "train.jsonl", rows(30))
        second = call("train", spec, "--json")
        assert second.code == 0, second.err
    return _Made(folder / "home", spec, first.json["run"], second.json["run"])


@pytest.fixture(autouse=True)
def _home(made: _Made, monkeypatch: pytest.MonkeyPatch, _own_home: None) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(made.home))


def _json(*arguments: object) -> dict[str, object]:
    called = call(*arguments, "--json")
    assert called.code == 0, called.err
    return called.json


def test_what_was_trained_is_listed_shown_and_compared(made: _Made) -> None:
    datasets = _json("datasets", "list")["datasets"]
    assert [(each["name"], each["rows"]) for each in datasets] == [  # type: ignore[attr-defined]
        ("shop/golden", 4),
        ("shop/train", 30),
    ]
    assert _json("datasets", "diff", "shop/train@1", "shop/train@2")["rows"] == {
        "added": 6,
        "removed": 0,
        "same": 24,
    }
    runs = _json("runs", "list")["runs"]
    assert [each["name"] for each in runs] == [made.second, made.first]  # type: ignore[attr-defined]
    changes = _json("runs", "diff", made.first, made.second)["changes"]
    assert changes["data.train"] == {"before": "shop/train@1", "after": "shop/train@2"}  # type: ignore[index]
    models = _json("models", "list")["models"]
    # The newest first: what was trained, and each other rung of the ladder.
    assert [(each["name"], bool(each["run"]), bool(each["verdict"])) for each in models] == [  # type: ignore[attr-defined]
        (made.second, True, False),
        (f"{made.first}-prompt", False, True),
        (f"{made.first}-base", False, False),
        (made.first, True, True),
    ]
    listed = {"datasets": 2, "runs": 2, "models": 4}
    for name, entry in (("datasets", "shop/train"), ("runs", made.first), ("models", made.first)):
        plain, shown = call(name, "show", entry), _json(name, "show", entry)
        assert plain.code == 0
        assert all(f"{key}:" in plain.out for key in shown)
        assert call(name, "list").out.count("\n") == 1 + listed[name]


def test_lineage_is_complete(made: _Made, tmp_path: Path) -> None:
    found = _json("lineage", made.first, "--svg", tmp_path / "lineage.svg")
    for key in ("base", "data", "settings", "code", "environment", "run", "evaluation", "hash"):
        assert found[key], key
    assert found["seed"] == 0
    assert found["settings"]["epochs"] == "1"  # type: ignore[index]
    assert found["base"]["licence"] == "unknown"  # type: ignore[index]
    assert (tmp_path / "lineage.svg").read_text().startswith("<svg")
    text = call("lineage", made.first).out
    assert "shop/train@1, 24 rows" in text
    assert made.first in text


def test_replay_gives_the_same_bits(made: _Made, tmp_path: Path) -> None:
    before = _json("runs", "list")
    found = _json("replay", made.first, "--out", tmp_path / "again")
    assert found["matches"] is True
    assert found["differences"] == []
    names = [each["name"] for each in found["files"]]  # type: ignore[attr-defined]
    assert names == ["adapter_config.json", "adapter_model.safetensors"]
    assert Path(str(found["path"])).is_dir()
    assert _json("runs", "list") == before  # no run of its own
    refused = call("replay", made.first, "--out", tmp_path / "again", "--json")
    assert refused.json["error"]["message"] == "the folder is not empty"


def test_replay_says_what_is_not_as_it_was(made: _Made) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        found = call("replay", made.first, "--json")
        told = call("replay", made.first)
    finally:
        torch.set_num_threads(threads)
    assert found.json["differences"] == [f"threads was {threads} and is {threads + 1}"]
    # Whether other threads make other bits is the machine's affair; the code says what happened.
    assert found.code == (0 if found.json["matches"] else 1)
    assert f"Not as it was: threads was {threads} and is {threads + 1}" in told.err


def test_replay_of_another_result_is_told(made: _Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "hash_file", lambda path: f"sha256:{path.name}")
    found = call("replay", made.first)
    assert found.code == 1
    assert "OTHER  adapter_model.safetensors" in found.out
    assert "not the same" in found.err


def test_replay_needs_neither_the_data_nor_the_run_folder(
    made: _Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.home, tmp_path / "home")
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "home"))
    shutil.rmtree(tmp_path / "home" / "runs")
    data = made.spec.parent / "train.jsonl"
    kept = data.read_bytes()
    data.unlink()
    try:
        found = call("replay", made.second)
    finally:
        data.write_bytes(kept)
    assert found.code == 0, found.err
    assert "bit for bit" in found.err


def test_an_alias_is_moved_asked_and_moved_back(made: _Made) -> None:
    first = _json("promote", made.first, "live", "--force", "the first")
    assert (first["model"], first["before"]) == (made.first, None)
    refused = call("promote", made.second, "live", "--json")
    assert refused.code == 1
    assert "never measured" in refused.json["error"]["message"]
    assert "--force REASON" in refused.json["error"]["hint"]
    for wrong in (["--force", " "], ["--force", "a", "--reason", "b"]):
        assert call("promote", made.second, "live", *wrong).code == 2
    second = _json("promote", made.second, "live", "--force", "for the board")
    assert (second["before"], second["verdict"]) == (made.first, None)
    answered = _json("chat", "live", "--question", "who is cat a?")
    assert answered["base"] is not None
    golden = made.spec.parent / "golden.jsonl"
    assert _json("eval", "live", "--golden", golden)["questions"] == 4
    assert _json("rollback", "live", "--reason", "too rude")["model"] == made.first
    history = _json("models", "show", "live")["aliases"]["live"]  # type: ignore[index]
    assert [each["reason"] for each in history] == ["the first", "for the board", "too rude"]
    (noted,) = call("models", "show", made.second, "--json").json["evaluations"]
    assert (noted["golden"], noted["verdict"]) == ("shop/golden@1", None)
    traced = call("lineage", made.second, "--json").json
    assert noted["score"] == traced["evaluation"]["score"]
    again = call("rollback", "live", "--json")
    assert again.code == 1
    assert "promote" in again.json["error"]["hint"]
    typo = call("chat", "liev", "--question", "?", "--json")
    assert typo.json["error"]["hint"] == "did you mean `live`?"


def test_a_model_whose_run_folder_is_gone_is_still_there(
    made: _Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _json("chat", made.first, "--question", "who is cat a?")
    backup = _json("backup", tmp_path / "all.tar")
    assert backup["copies"]
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "new"))
    _json("backup", tmp_path / "all.tar", "--restore")
    shutil.move(made.home / "runs", tmp_path / "runs")
    try:
        assert _json("chat", made.first, "--question", "who is cat a?") == answer
        assert _json("verify")["sound"]
    finally:
        shutil.move(tmp_path / "runs", made.home / "runs")


def test_verify_and_gc(made: _Made) -> None:
    assert _json("verify")["damage"] == []
    planned = _json("gc", "--dry-run")
    done = _json("gc")
    assert planned["copies"] == done["copies"]
    assert _json("gc")["freed_bytes"] == 0
    assert _json("verify")["damage"] == []
    adapter = made.home / "runs" / made.first / "model" / "adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 1
    adapter.write_bytes(bytes(data))
    found = call("verify")
    data[-1] ^= 1
    adapter.write_bytes(bytes(data))
    assert found.code == 1
    assert str(adapter) in found.out
    assert "DAMAGED" in found.err


def test_what_is_unknown_is_told(made: _Made) -> None:
    for arguments in (
        ("runs", "show", "nothing"),
        ("models", "diff", made.first, "nothing"),
        ("datasets", "show", "nothing"),
        ("lineage", "nothing"),
        ("replay", "nothing"),
        ("promote", "nothing", "live"),
    ):
        called: Called = call(*arguments, "--json")
        assert called.code == 1, arguments
        assert "`nothing`" in called.json["error"]["message"]
        assert called.json["error"]["hint"]
    assert call("runs", "forget").code == 2


def test_a_finished_run_is_written_down_when_it_was_not_before(
    made: _Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that was killed between its result and the registry."""
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "home"))
    project = load_project(made.spec)
    told: list[Event] = []
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "registry.db").write_text("no database " * 500)
    train_project(project, out=tmp_path / "run", sink=told.append)
    warnings = [str(each) for each in told if isinstance(each, Warned)]
    assert any("not written into the registry" in each for each in warnings)
    before = files_of(tmp_path / "run")
    (tmp_path / "home" / "registry.db").unlink()
    told.clear()
    train_project(project, out=tmp_path / "run", resume=True, sink=told.append)
    assert not [each for each in told if isinstance(each, Warned)]
    assert files_of(tmp_path / "run") == before
    assert _json("models", "list")["models"][0]["name"] == "run"  # type: ignore[index]
    assert _json("verify")["sound"]


def test_the_command_line_starts_without_the_database() -> None:
    program = "import sys, tunefork.cli, tunefork.cli.app; print(sorted(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "'sqlalchemy'" not in ended.stdout
    assert "'alembic'" not in ended.stdout
