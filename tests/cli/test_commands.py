"""What each command prints where, and that the program starts at once."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tunefork
from tests.cli.command import call
from tests.projects import files_of, small_probe, write_project
from tests.small import save_model
from tunefork.workflow.spec import load_project
from tunefork.workflow.start import example_project, examples

_VERBS = ["demo", "init", "train", "eval", "run", "chat"]
_MOST_START_S = 0.5  # of processor time, which a busy machine does not stretch much
_HEAVY = ["torch", "transformers", "numpy", "scipy", "tokenizers", "jinja2", "huggingface_hub"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    base = save_model("llama", folder / "base")
    return write_project(folder / "project", base, training={"epochs": 1})


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    for option in ("--help", "-h"):
        called = call(verb, option)
        assert called.code == 0
        assert "Usage" in called.out
        assert "--json" in called.out
        assert called.err == ""


def test_help_names_every_verb() -> None:
    for called in (call("--help"), call()):
        assert called.code == 0
        assert all(f" {verb} " in called.out for verb in _VERBS)


def test_version() -> None:
    called = call("--version")
    assert (called.code, called.out) == (0, f"tunefork {tunefork.__version__}\n")


def test_help_loads_nothing_heavy_and_answers_at_once() -> None:
    program = (
        "import sys; from tunefork.cli import main\n"
        "sys.argv = ['tunefork', '--help']\n"
        "try: main()\n"
        f"finally: print(sorted(set(sys.modules) & set({_HEAVY!r})), file=sys.stderr)\n"
    )
    times = []
    for _ in range(3):  # the first one may have to compile, or read from a cold disk
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == "[]\n"
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < _MOST_START_S, times


def test_init_writes_a_project_that_loads(tmp_path: Path) -> None:
    called = call("init", tmp_path / "new", "--json")
    assert called.code == 0
    assert set(called.json) == {"folder", "files", "next"}
    assert sorted(files_of(tmp_path / "new")) == ["golden.jsonl", "train.jsonl", "tunefork.yaml"]
    project = load_project(tmp_path / "new")
    assert project.spec.base == "tiny"
    assert project.path(project.spec.data.first).is_file()
    assert project.spec.golden is not None
    assert project.path(project.spec.golden).is_file()


def test_init_copies_an_example_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in ("../new", "."):
        called = call("init", name, "--example", "catgpt", "--json")
        assert called.code == 0, called.err
    assert examples() == ["catgpt"]
    wanted = files_of(example_project("catgpt").folder)
    assert files_of(tmp_path / "new") == files_of(tmp_path / "empty") == wanted
    assert load_project(tmp_path / "new").spec == example_project("catgpt").spec


def test_init_takes_the_map_that_it_advises(tmp_path: Path) -> None:
    rows = tmp_path / "own.csv"
    words = ["".join(pair) * 3 for pair in itertools.product("abcdefgh", repeat=2)]
    lines = (f"{word} of {word}?,{word[::-1]} and {word[::-1]}" for word in words)
    rows.write_text("\n".join(["said,told", *lines]), encoding="utf-8")
    goal = ("--goal", "Tells visitors the colour of each thing in one sentence")
    refused = call("init", tmp_path / "new", *goal, "--data", rows)
    assert refused.code == 1
    assert "--map" in refused.err
    assert not (tmp_path / "new").exists()
    given = ("--map", "user=said,assistant=told", "--facts", "2", "--json")
    called = call("init", tmp_path / "new", *goal, "--data", rows, *given)
    assert called.code == 0, called.err
    assert called.json["golden"]["groups"] == 2
    assert load_project(tmp_path / "new").spec.golden is not None


def test_init_without_json_names_the_files(tmp_path: Path) -> None:
    called = call("init", tmp_path / "new")
    assert called.out.splitlines() == sorted(str(p) for p in (tmp_path / "new").iterdir())
    assert "tunefork run" in called.err


def test_json_goes_to_stdout_and_talk_to_stderr(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunefork.workflow import run as run_module

    monkeypatch.setattr(run_module, "general_probe", small_probe)
    golden = spec.parent / "golden.jsonl"
    trained = call("train", spec, "--out", tmp_path / "run", "--json")
    assert trained.code == 0, trained.err
    model = trained.json["model"]
    commands = {
        "train": ["train", spec, "--out", tmp_path / "run", "--resume"],
        "run": ["run", spec, "--out", tmp_path / "run", "--resume"],
        "eval": ["eval", model, "--golden", golden],
        "chat": ["chat", model, "--question", "who is cat a?"],
    }
    for name, arguments in commands.items():
        with_json, plain = call(*arguments, "--json"), call(*arguments)
        assert with_json.code == plain.code == 0, with_json.err + plain.err
        assert isinstance(with_json.json, dict)
        assert "\x1b" not in with_json.err + plain.err + plain.out  # colour is for terminals
        # Without --json, what a person wants to pipe on is on stdout, and no JSON.
        assert bool(plain.out) == (name in ("eval", "chat")), name
    assert "Training" in trained.err
    assert "steps" in trained.json


def test_chat_reads_lines_and_remembers_until_told(spec: Path) -> None:
    base = load_project(spec).spec.base
    talked = call("chat", base, "--json", stdin="who is cat a?\n\n/new\nwho is cat a?\n/quit\nno\n")
    assert talked.code == 0, talked.err
    first, second = [json.loads(line) for line in talked.out.splitlines()]
    assert first == second
    assert first["base"] is None


def test_output_that_stdout_cannot_hold_is_escaped(spec: Path) -> None:
    program = "from tunefork.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", b"caf\xc3\xa9\xff.yaml", "--json"],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["error"]["code"] == "spec"
    assert b"Traceback" not in ended.stderr
