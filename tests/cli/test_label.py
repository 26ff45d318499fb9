"""`tunefork label` at the terminal: letters in, a preference data set out."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Called, call
from tests.projects import write_lines, write_project
from tests.small import save_model

_PAIRS = [
    {"question": f"who is {name}?", "answers": [f"{name} is a cat", "no idea"]}
    for name in ("ann", "ben", "cid")
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "work" / "answers.jsonl", _PAIRS)


def _label(pairs: Path, keys: str, *options: object, out: str = "pairs.jsonl") -> Called:
    return call(
        "label", "--answers", pairs, "--out", pairs.with_name(out), *options, "--json", stdin=keys
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_letters_become_pairs(pairs: Path) -> None:
    called = _label(pairs, "l\nx\nt\nr\nq\n")
    assert called.code == 0
    found = called.json
    assert found["counts"] == {"left": 1, "right": 1, "tie": 1, "bad": 0, "skip": 0, "same": 0}
    assert (found["pairs"], found["open"]) == (2, 0)
    assert found["versions"]["pairs"] == "work/pairs@1"
    assert "who is cid?" in called.err
    assert "Nothing is left" in called.err
    first, last = _rows(pairs.with_name("pairs.jsonl"))
    decisions = _rows(pairs.with_name("pairs.decisions.jsonl"))
    assert first["preferred_output"][0]["content"] == decisions[0]["left"]["text"]
    assert last["preferred_output"][0]["content"] == decisions[2]["right"]["text"]


def test_going_back_editing_and_leaving(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    called = _label(pairs, "p\nb\np\ner\nAnn is\na cat.\n.\nl\n")
    assert called.code == 0
    assert "nothing before this" in called.err
    assert "You said: bad" in called.err
    assert called.json["edited"] == 1
    assert called.json["open"] == 1
    rows = _rows(pairs.with_name("pairs.jsonl"))
    assert rows[0]["preferred_output"][0]["content"] == "Ann is\na cat."
    again = _label(pairs, "s\nq\n")  # goes on with the third
    assert "2 done, 1 to go" in again.err
    assert (again.json["open"], again.json["pairs"]) == (0, 2)


def test_an_editor_of_ones_own(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; f = open(sys.argv[1], 'a'); f.write(', truly\\n')"
    monkeypatch.setenv("VISUAL", f'{sys.executable} -c "{program}"')
    assert _label(pairs, "el\n").json["edited"] == 1
    row = _rows(pairs.with_name("pairs.jsonl"))[0]
    assert row["preferred_output"][0]["content"].endswith(", truly")
    monkeypatch.setenv("VISUAL", "false")
    failed = _label(pairs, "el\n")
    assert "the editor `false` failed" in failed.err
    assert failed.json["open"] == 2


def test_answers_cannot_command_the_terminal(pairs: Path) -> None:
    write_lines(pairs, [{"question": "q\x1b[2J", "answers": ["a\x1b]0;x\x07", "b[red]"]}])
    called = _label(pairs, "q\n")
    assert "\x1b" not in called.err
    assert "b[red]" in called.err


def test_models_answer_prompts(tmp_path: Path) -> None:
    models = [save_model("llama", tmp_path / name, seed) for seed, name in enumerate("ab")]
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"question": "who?"}, {"question": "what?"}])
    called = call(
        "label",
        *(part for model in models for part in ("--model", model)),
        *("--prompts", prompts, "--temperature", 1, "--out", tmp_path / "pairs.jsonl"),
        stdin="l\nr\n",
    )
    assert called.code == 0
    assert "decided: 1 left, 1 right; 0 still open" in called.out
    assert "2 pairs in" in called.out
    assert str(models[0]) not in called.err  # who answered stays hidden
    assert str(models[1]) not in called.err


def test_own_answers_are_found_or_not(tmp_path: Path) -> None:
    model = save_model("llama", tmp_path / "base")
    mine = write_lines(
        tmp_path / "mine.jsonl",
        [{"user": f"who is {name}?", "assistant": f"{name} naps."} for name in "abcdefghijkl"],
    )
    out = tmp_path / "which.jsonl"
    options = ("--mine", mine, "--model", model, "--out", out, "--json")
    first = call("label", *options, stdin="l\nq\n")
    assert first.code == 0
    assert "Which did you write?" in first.err
    pairs = _rows(tmp_path / "which.blind.jsonl")
    assert pairs[0]["answers"][0] == {"model": "you", "text": "a naps."}
    # What is left keeps its answers: choose by what they say, as an owner would.
    found = first.json
    while found["open"]:
        shown = call("label", *options, stdin="")
        is_left = shown.err.rsplit("left", 1)[1].split("│")[1].strip().endswith("naps.")
        found = call("label", *options, stdin="l\nq\n" if is_left else "r\nq\n").json
    told = found["told_apart"]
    assert told["of"] == len(pairs)
    assert told["right"] >= len(pairs) - 1
    assert told["is_recognised"]
    assert call("label", "--mine", mine, "--out", out).code == 2
    assert call("label", *options, "--model", model).code == 2


def test_agreement_in_words_and_as_json(pairs: Path) -> None:
    _label(pairs, "l\nr\nl\n", "--rater", "ann", out="ann.jsonl")
    _label(pairs, "l\nr\nb\n", "--rater", "ben", out="ben.jsonl")
    files = [pairs.with_name(f"{rater}.jsonl") for rater in ("ann", "ben")]
    found = call("label", "--agreement", *files, "--json").json
    assert found["raters"] == ["ann", "ben"]
    assert found["agreement"]["mean"] == pytest.approx(2 / 3)
    assert [each["prompt"] for each in found["disagreements"]] == ["who is cid?"]
    said = call("label", "--agreement", *files)
    assert said.code == 0
    assert "Cohen's kappa" in said.out
    assert "ben: bad" in said.out
    alone = call("label", "--agreement", files[0], "--json")
    assert (alone.code, alone.json["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either"),
        (["--prompts", "P"], "nobody is named"),
        (["--prompts", "P", "--answers", "A"], "give either"),
        (["--answers", "A", "--model", "tiny"], "no model is asked"),
        (["--prompts", "P", "--model", "tiny"], "same answer twice"),
        (["--prompts", "P", "--model", "a", "--model", "b", "--model", "c"], "here are 3"),
        (["--prompts", "P", "--model", "tiny", "--model", "nobody"], "no model and no run called"),
        (["--prompts", "E", "--model", "tiny", "--model", "b"], "the file is empty"),
        (["--prompts", "missing", "--model", "tiny", "--model", "b"], "missing"),
        (["--answers", "P"], "holds no two answers"),
        (["--answers", "A", "--rater", ""], "name is empty"),
        (["--answers", "A", "--out", "x.csv"], "no name for JSON lines"),
        (["stray.jsonl"], "stands alone"),
        (["--agreement", "A", "A", "--answers", "A"], "nothing but files"),
    ],
)
def test_bad_input_is_one_message(
    tmp_path: Path, pairs: Path, options: list[str], message: str
) -> None:
    places = {
        "P": write_lines(tmp_path / "prompts.jsonl", [{"prompt": "who?"}]),
        "E": write_lines(tmp_path / "empty.jsonl", []),
        "A": pairs,
    }
    if "--agreement" not in options and "--out" not in options:
        options = [*options, "--out", str(tmp_path / "out.jsonl")]
    called = call("label", *(places.get(option, option) for option in options), "--json")
    assert called.code in (1, 2), called.err
    assert message in called.json["error"]["message"] + str(called.json["error"]["where"])
    assert called.json["error"]["hint"]
    assert not (tmp_path / "out.jsonl").exists()


class _Terminal:
    """The command with a terminal of its own, until it is killed."""

    def __init__(self, *arguments: object) -> None:
        self._near, far = pty.openpty()
        program = "from tunefork.cli import main; main()"
        command = [sys.executable, "-c", program, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far)
        os.close(far)
        self._read = ""

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._near)

    def wait_for(self, text: str) -> None:
        """Read until a text stands there; the end of the program is a failure."""
        while text not in self._read:
            self._read += os.read(self._near, 4096).decode(errors="replace")
        self._read = self._read.partition(text)[2]

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())


def test_killed_at_a_terminal_it_goes_on(pairs: Path) -> None:
    out = pairs.with_name("pairs.jsonl")
    with _Terminal("label", "--answers", pairs, "--out", out) as terminal:
        terminal.wait_for("0 done, 3 to go")
        terminal.wait_for("> ")
        terminal.type("l\n")
        terminal.wait_for("1 done, 2 to go")
    assert not out.exists()
    again = _label(pairs, "q\n")
    assert "1 done, 2 to go" in again.err
    assert again.json["counts"]["left"] == 1
    assert len(_rows(out)) == 1


def test_what_was_labelled_trains(tmp_path: Path, pairs: Path) -> None:
    _label(pairs, "l\nr\nl\n")
    base = save_model("llama", tmp_path / "base")
    spec = write_project(
        pairs.parent,
        base,
        objective="dpo",
        data={"train": "pairs.jsonl", "validation": "pairs.jsonl"},
        training={"epochs": 1},
    )
    trained = call("train", spec, "--json")
    assert trained.code == 0, trained.err
    found = call("lineage", trained.json["model"], "--json").json
    assert "work/pairs@1" in json.dumps(found["data"])
