"""Every bad input: one clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Called, call
from tests.projects import files_of, rows, write_lines, write_project
from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.core.files import home
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import train_project


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("small") / "base")


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    spec = write_project(folder / "project", base, training={"epochs": 1})
    return train_project(load_project(spec), out=folder / "run", sink=no_sink).run.path


@dataclass(frozen=True)
class _Place:
    """A sound project with a base of its own, to be broken in one way."""

    folder: Path
    base: Path

    @property
    def spec(self) -> Path:
        return self.folder / "tunefork.yaml"

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def golden(self) -> Path:
        return self.folder / "golden.jsonl"

    def rewrite(self, **changes: Any) -> Path:
        lines = {"base": str(self.base), "data": {"train": "train.jsonl"}, "golden": "golden.jsonl"}
        self.spec.write_text(
            "".join(f"{k}: {json.dumps(v)}\n" for k, v in (lines | changes).items())
        )
        return self.spec


@pytest.fixture
def place(base: Path, tmp_path: Path) -> _Place:
    shutil.copytree(base, tmp_path / "base")
    found = _Place(tmp_path / "project", tmp_path / "base")
    write_project(found.folder, found.base)
    return found


def failed(called: Called, *, code: int = 1, where: str = "", says: str = "", kind: str) -> None:
    """Check the shape that every failure has, on both outputs."""
    assert called.code == code, called.err
    assert called.err.count("error:") == 1, called.err
    assert "Traceback" not in called.err
    message = called.err[called.err.index("error:") :]
    assert "\nhint: " in message
    error = called.json["error"]
    assert set(error) - {"details"} == {"code", "message", "where", "hint"}
    assert error["code"] == kind
    assert error["hint"]
    assert says in " ".join([error["message"], error["hint"], *error.get("details", [])])
    if where:
        assert message.startswith(f"error: {where}: ")
        file, _, line = where.rpartition(":")
        known = {"file": file, "line": int(line)} if line.isdigit() else {"file": where}
        assert {key: error["where"][key] for key in known} == known


Break = Callable[[_Place], object]


def _line(at: int, text: str) -> Break:
    def change(place: _Place) -> None:
        lines = place.train.read_text().splitlines(keepends=True)
        lines[at - 1] = text + "\n"
        place.train.write_text("".join(lines))

    return change


def _all_lines(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Break:
    return lambda place: write_lines(place.train, [change(row) for row in rows()])


_DATA: dict[str, tuple[Break, str, str]] = {
    "missing file": (lambda p: p.train.unlink(), "train.jsonl", "no such file"),
    "empty file": (lambda p: p.train.write_bytes(b""), "train.jsonl", "is empty"),
    "blank file": (lambda p: p.train.write_bytes(b"\n \n"), "train.jsonl", "holds no rows"),
    "not UTF-8": (
        lambda p: p.train.write_bytes(p.train.read_bytes() + b'{"user": "caf\xe9"}\n'),
        "train.jsonl:25",
        "not UTF-8",
    ),
    "broken JSON": (_line(7, '{"user": "a", "assistant": '), "train.jsonl:7", "broken JSON"),
    "no object": (_line(7, "[1, 2]"), "train.jsonl:7", "not an object"),
    "wrong field names": (
        _all_lines(lambda row: {"ask": row["user"], "reply": row["assistant"]}),
        "train.jsonl:1",
        "known format",
    ),
    "one wrong row": (_line(3, '{"user": "a"}'), "train.jsonl:3", "no `assistant`"),
    "no assistant turn": (
        _all_lines(lambda row: {"messages": [{"role": "user", "content": row["user"]}]}),
        "train.jsonl:1",
        "no assistant turn",
    ),
    "empty answer": (_line(2, '{"user": "a", "assistant": " "}'), "train.jsonl:2", "empty answer"),
    "a number for text": (_line(2, '{"user": "a", "assistant": 3}'), "train.jsonl:2", "text"),
    "half a character": (
        _line(2, '{"user": "a", "assistant": "\\ud800"}'),
        "train.jsonl:2",
        "half a character",
    ),
    "unknown ending": (
        lambda p: (p.train.rename(p.folder / "train.txt"), p.rewrite(data={"train": "train.txt"})),
        "train.txt",
        "format",
    ),
    "a folder": (
        lambda p: p.train.rename(p.folder / "other.jsonl").parent.joinpath("train.jsonl").mkdir(),
        "train.jsonl",
        "folder",
    ),
    "every row too long": (
        lambda p: p.rewrite(training={"max_length": 8}),
        "train.jsonl:1",
        "every row is longer than 8 tokens",
    ),
    "validation too long": (
        lambda p: (
            write_lines(p.folder / "v.jsonl", [{"user": "a", "assistant": "b" * 300}]),
            p.rewrite(data={"train": "train.jsonl", "validation": "v.jsonl"}),
        ),
        "v.jsonl:1",
        "every row is longer",
    ),
    "map to a column that is not there": (
        lambda p: p.rewrite(data={"train": "train.jsonl", "map": {"user": "x", "assistant": "y"}}),
        "train.jsonl:1",
        "no column",
    ),
}


@pytest.mark.parametrize("name", _DATA)
def test_data(name: str, place: _Place, tmp_path: Path) -> None:
    change, where, says = _DATA[name]
    change(place)
    called = call("train", place.spec, "--out", tmp_path / "out", "--json")
    failed(called, where=f"{place.folder}/{where}", says=says, kind="data")
    assert not (tmp_path / "out").exists()


_SPECS: dict[str, tuple[str, int | None, str]] = {
    "unknown key": ("data: {train: train.jsonl}\ntrainning: {}\n", 2, "did you mean `training`?"),
    "unknown inner key": (
        "data: {train: train.jsonl}\ntraining:\n  epochs: 2\n  epoch: 3\n",
        4,
        "did you mean `epochs`?",
    ),
    "wrong type": ("data: {train: train.jsonl}\ntraining:\n  epochs: many\n", 3, "`many`"),
    "out of range": ("data: {train: train.jsonl}\ntraining:\n  epochs: 0\n", 3, "greater"),
    "no data": ("base: tiny\n", 1, "`data` is missing"),
    "unknown strategy": (
        "data: {train: train.jsonl}\nstrategy: loar\n",
        2,
        "did you mean `lora`?",
    ),
    "a list": ("- a\n- b\n", None, "key: value"),
    "empty": ("", None, "key: value"),
    "broken YAML": ("data: {train: train.jsonl\nbase: tiny\n", 2, "not valid YAML"),
    "twice": ("base: tiny\ndata: {train: train.jsonl}\nbase: tiny\n", 3, "given twice"),
    "no date": ("data: {train: train.jsonl}\ndate: 2024-13-45\n", None, "month"),
}


@pytest.mark.parametrize("name", _SPECS)
def test_spec(name: str, place: _Place, tmp_path: Path) -> None:
    text, line, says = _SPECS[name]
    place.spec.write_text(text)
    called = call("run", place.folder, "--out", tmp_path / "out", "--json")
    where = str(place.spec) if line is None else f"{place.spec}:{line}"
    failed(called, where=where, says=says.strip("`"), kind="spec")
    assert not (tmp_path / "out").exists()


def test_a_spec_that_is_not_there(tmp_path: Path) -> None:
    for given, looked_for in ((tmp_path / "a.yaml", "a.yaml"), (tmp_path, "tunefork.yaml")):
        called = call("train", given, "--json")
        failed(called, where=str(tmp_path / looked_for), says="no such spec", kind="spec")


def test_a_spec_that_is_not_utf8(place: _Place) -> None:
    place.spec.write_bytes(b"goal: caf\xe9\n")
    failed(call("train", place.spec, "--json"), where=str(place.spec), says="UTF-8", kind="spec")


def _config(change: dict[str, Any]) -> Break:
    def apply(place: _Place) -> None:
        path = place.base / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return apply


def _cut(place: _Place) -> None:
    path = place.base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _lack(place: _Place) -> None:
    from safetensors.torch import load_file, save_file

    path = place.base / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


def _pickle(place: _Place) -> None:
    (place.base / "model.safetensors").rename(place.base / "pytorch_model.bin")


_BASES: dict[str, tuple[Break, str, str]] = {
    "unknown name": (lambda p: p.rewrite(base="tinny"), "", "did you mean `tiny`?"),
    "unknown name, nothing near": (lambda p: p.rewrite(base="zzzz"), "", "no base `zzzz`"),
    "unknown hub id": (lambda p: p.rewrite(base="no-such-owner/model"), "", "hub"),
    "impossible hub id": (lambda p: p.rewrite(base="a--b/c..d"), "", "hub"),
    "unknown home": (lambda p: p.rewrite(base="~nosuchuser/model"), "", "~nosuchuser"),
    "a file": (lambda p: p.rewrite(base="train.jsonl"), "project/train.jsonl", "is a file"),
    "no model": (lambda p: p.rewrite(base="."), "project", "no config.json"),
    "no weights": (lambda p: (p.base / "model.safetensors").unlink(), "base", "no *.safetensors"),
    "a pickle": (_pickle, "base/pytorch_model.bin", "pickle"),
    "cut weights": (_cut, "base", "cannot load"),
    "weights of zeros": (
        lambda p: (p.base / "model.safetensors").write_bytes(b"\0" * 4096),
        "base",
        "cannot load",
    ),
    "a tensor that is missing": (_lack, "base", "lack `model.layers.1.mlp.up_proj.weight`"),
    "another shape": (_config({"intermediate_size": 64}), "base", "cannot load"),
    "garbage config": (
        lambda p: (p.base / "config.json").write_bytes(b"\xff\x00{"),
        "base/config.json",
        "config",
    ),
    "config of a list": (
        lambda p: (p.base / "config.json").write_text("[]"),
        "base/config.json",
        "no JSON object",
    ),
    "config without a type": (_config({"model_type": None}), "base/config.json", "model_type"),
    "unknown type": (_config({"model_type": "hal9000"}), "base", "hal9000"),
    "wrong value in the config": (_config({"hidden_size": "wide"}), "base", "cannot load"),
    "sizes that do not fit": (_config({"num_attention_heads": 5}), "base", "cannot load"),
    "recurrent": (_config({"model_type": "mamba"}), "base", "recurrent"),
    "no tokenizer": (lambda p: (p.base / "tokenizer.json").unlink(), "base", "tokenizer.json"),
    "broken tokenizer": (
        lambda p: (p.base / "tokenizer.json").write_text("{"),
        "base/tokenizer.json",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", _BASES)
def test_base(name: str, place: _Place, tmp_path: Path) -> None:
    change, where, says = _BASES[name]
    change(place)
    called = call("train", place.spec, "--out", tmp_path / "out", "--json")
    failed(called, where=f"{tmp_path}/{where}" if where else "", says=says, kind="model")
    assert not (tmp_path / "out").exists()


def test_an_unknown_layer_is_named(place: _Place, tmp_path: Path) -> None:
    place.rewrite(strategy={"name": "lora", "targets": ["q_projj"]})
    called = call("train", place.spec, "--out", tmp_path / "out", "--json")
    failed(called, says="`q_projj`", kind="model")
    assert not (tmp_path / "out").exists()


_GOLDEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing": (lambda path: path.unlink(), "", "no such file"),
    "empty": (lambda path: path.write_text(""), "", "is empty"),
    "broken": (lambda path: path.write_text('{"question": \n'), ":1", "broken JSON"),
    "unknown grader": (
        lambda path: path.write_text('{"question": "a", "reference": "b", "grader": "contans"}\n'),
        ":1",
        "did you mean `contains`?",
    ),
    "unknown field": (
        lambda path: path.write_text('{"question": "a", "refrence": "b"}\n'),
        ":1",
        "did you mean `reference`?",
    ),
    "nothing to grade by": (lambda path: path.write_text('{"question": "a"}\n'), ":1", "reference"),
    "no question": (lambda path: path.write_text('{"reference": "a"}\n'), ":1", "question"),
    "broken pattern": (
        lambda path: path.write_text('{"question": "a", "reference": "(", "grader": "regex"}\n'),
        ":1",
        "regex",
    ),
}


@pytest.mark.parametrize("name", _GOLDEN)
def test_golden(name: str, place: _Place, tmp_path: Path) -> None:
    change, line, says = _GOLDEN[name]
    change(place.golden)
    out = tmp_path / "out"
    for called in (
        call("run", place.spec, "--out", out, "--json"),
        call("eval", place.base, "--golden", place.golden, "--json"),
    ):
        failed(called, where=f"{place.golden}{line}", says=says, kind="data")
    assert not out.exists()


def test_a_folder_that_is_not_empty(place: _Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    for more in ([], ["--resume"]):
        called = call("train", place.spec, "--out", out, *more, "--json")
        failed(called, where=str(out), says="not empty", kind="run")
    assert files_of(out).keys() == {"letter.txt"}


def test_a_file_in_the_place_of_the_folder(place: _Place, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("dear")
    called = call("train", place.spec, "--out", out, "--json")
    failed(called, where=str(out), says="is a file", kind="run")
    called = call("train", place.spec, "--out", out / "run", "--json")
    failed(called, says="cannot write here", kind="run")
    assert out.read_text() == "dear"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(place: _Place, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    called = call("train", place.spec, "--out", closed / "run", "--json")
    failed(called, says="cannot write here", kind="run")


def test_a_finished_run_is_not_written_over(finished: Path) -> None:
    before = files_of(finished)
    spec = finished.parent / "project" / "tunefork.yaml"
    called = call("train", spec, "--out", finished, "--json")
    failed(called, where=str(finished), says="--resume", kind="run")
    assert files_of(finished) == before


def test_another_spec_does_not_resume(finished: Path, place: _Place) -> None:
    before = files_of(finished)
    called = call("train", place.spec, "--out", finished, "--resume", "--json")
    failed(called, where=str(finished), says="another spec", kind="run")
    assert files_of(finished) == before


@pytest.mark.parametrize("name", ["record.json", "result.json"])
def test_a_damaged_run(name: str, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    spec = finished.parent / "project" / "tunefork.yaml"
    (tmp_path / "run" / name).write_text('{"identity": ')
    called = call("train", spec, "--out", tmp_path / "run", "--resume", "--json")
    failed(called, where=f"{tmp_path}/run/{name}", says="damaged", kind="run")


def test_init(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    called = call("init", tmp_path / "full", "--json")
    failed(called, where=str(tmp_path / "full"), says="not empty", kind="spec")
    called = call("init", tmp_path / "full" / "letter.txt", "--json")
    failed(called, says="is a file", kind="spec")
    called = call("init", tmp_path / "new", "--example", "catgtp", "--json")
    failed(called, code=2, says="did you mean `catgpt`?", kind="usage")
    called = call("init", tmp_path / "full" / "letter.txt" / "inside", "--json")
    failed(called, says="cannot write here", kind="run")
    assert files_of(tmp_path).keys() == {"full/letter.txt"}


def test_init_leaves_nothing_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str, **options: object) -> None:
        raise OSError(28, "No space left on device", target)

    monkeypatch.setattr(shutil, "copy2", refuse)
    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, refuse, False, False))
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        called = call("init", tmp_path / name, "--example", "catgpt", "--json")
        failed(called, where=str(tmp_path / name), says="the disk is full", kind="run")
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_unknown_models(place: _Place, finished: Path, tmp_path: Path) -> None:
    (home() / "runs" / "catgpt-1a2b3c4d").mkdir(parents=True)
    cases = [
        ("catgpt-1a2b3c4e", "did you mean `catgpt-1a2b3c4d`?"),
        ("tinny", "did you mean `tiny`?"),
        (str(tmp_path / "nothing"), "no base"),
        (str(place.folder), "is a project, not a model"),
        (str(tmp_path), "no config.json"),
        (str(place.golden), "is a file"),
        ("no-such-owner/model", "hub"),
    ]
    for name, says in cases:
        failed(call("chat", name, "-q", "a", "--json"), says=says, kind="model")
        failed(call("eval", name, "--golden", place.golden, "--json"), says=says, kind="model")


def _adapter_config(change: dict[str, Any]) -> Callable[[Path], object]:
    def apply(model: Path) -> None:
        path = model / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return apply


def _half_a_pair(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = model / "adapter_model.safetensors"
    tensors = load_file(path)
    del tensors[next(iter(tensors))]
    save_file(tensors, path)


_ADAPTERS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut weights": (
        lambda m: (m / "adapter_model.safetensors").write_bytes(b"\x10\0\0"),
        "adapter_model.safetensors",
        "not a usable adapter",
    ),
    "no weights": (
        lambda m: (m / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors",
        "not a usable adapter",
    ),
    "half a pair": (_half_a_pair, "adapter_model.safetensors", "pair"),
    "garbage config": (
        lambda m: (m / "adapter_config.json").write_bytes(b"\xff{"),
        "adapter_config.json",
        "not a usable adapter",
    ),
    "config of a list": (
        lambda m: (m / "adapter_config.json").write_text("[]"),
        "adapter_config.json",
        "no JSON object",
    ),
    "another method": (_adapter_config({"peft_type": "IA3"}), "adapter_config.json", "IA3"),
    "no alpha": (_adapter_config({"lora_alpha": None}), "adapter_config.json", "lora_alpha"),
    "negative alpha": (_adapter_config({"lora_alpha": -1}), "adapter_config.json", "lora_alpha"),
    "garbage card": (lambda m: (m / "tunefork.json").write_text("{"), "tunefork.json", "damaged"),
    "another base": (
        lambda m: (m / "tunefork.json").write_text(
            json.dumps(json.loads((m / "tunefork.json").read_text()) | {"base_hash": "sha256:0"})
        ),
        "tunefork.json",
        "another version of its base",
    ),
    "no date": (
        lambda m: (m / "tunefork.json").write_text(
            json.dumps(json.loads((m / "tunefork.json").read_text()) | {"date": "tomorrow"})
        ),
        "tunefork.json",
        "damaged",
    ),
}


@pytest.mark.parametrize("name", _ADAPTERS)
def test_adapter(name: str, finished: Path, tmp_path: Path) -> None:
    change, where, says = _ADAPTERS[name]
    shutil.copytree(finished, tmp_path / "run")
    model = tmp_path / "run" / "model"
    change(model)
    called = call("chat", tmp_path / "run", "-q", "who?", "--json")
    kind = "run" if name == "garbage card" else "model"
    failed(called, where=f"{model}/{where}", says=says, kind=kind)


def test_a_base_that_changed_under_its_adapter(place: _Place, tmp_path: Path) -> None:
    assert call("train", place.spec, "--out", tmp_path / "run", "--json").code == 0
    with (place.base / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    called = call("chat", tmp_path / "run", "-q", "who?", "--json")
    failed(called, says="another version of its base", kind="model")
    shutil.rmtree(place.base)
    called = call("chat", tmp_path / "run", "-q", "who?", "--json")
    failed(called, says=str(place.base), kind="model")


def test_an_unfinished_run_does_not_open(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copyfile(finished / "record.json", tmp_path / "run" / "record.json")
    called = call("chat", tmp_path / "run", "-q", "who?", "--json")
    failed(called, where=str(tmp_path / "run"), says="not finished", kind="model")


def test_usage() -> None:
    cases = [
        (["train"], "Missing argument"),
        (["train", "a", "b"], "unexpected"),
        (["train", "a", "--nope"], "--nope"),
        (["nope"], "nope"),
        (["eval", "tiny"], "--golden"),
        (["--nope"], "--nope"),
    ]
    for arguments, says in cases:
        failed(call(*arguments, "--json"), code=2, says=says, kind="usage")


def test_a_fault_of_ours_is_owned(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("tunefork.workflow.spec.load_project", fail)
    called = call("train", place.spec, "--json")
    failed(called, code=3, says="ZeroDivisionError: oops", kind="internal")
    assert "oops" in (home() / "last_crash.txt").read_text()


def test_an_interrupt_says_how_to_go_on(place: _Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunefork.workflow.spec.load_project", interrupt)
    called = call("train", place.spec)
    assert called.code == 130
    assert "--resume" in called.err


def test_brackets_in_a_path_are_no_markup(place: _Place, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]x[/nope]"
    shutil.copytree(place.folder, folder)
    (folder / "tunefork.yaml").write_text(
        f"base: {place.base}\ndata: {{train: train.jsonl}}\n"
        "training: {epochs: 1, max_length: 60}\n"
    )
    write_lines(folder / "train.jsonl", [*rows(), {"user": "a", "assistant": "b" * 100}])
    called = call("train", folder, "--out", folder / "run")
    assert called.code == 0, called.err
    assert f"{folder}/train.jsonl:25" in called.err
    assert f"{folder}/run/model" in called.err


def test_one_failure_in_a_process_of_its_own(place: _Place) -> None:
    place.train.write_text('{"user": \n')
    program = "from tunefork.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", str(place.spec)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {place.train}:1: broken JSON")
    assert ended.stderr.count("\n") == 2
