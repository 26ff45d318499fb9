"""`tunefork convert`: what it prints, where it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import call

ROWS = [{"question": f"{at}?", "answer": "yes", "id": at} for at in range(3)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.v1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_the_new_file_lies_beside_the_old_one(data: Path) -> None:
    called = call("convert", data, "--to", "chat")
    assert (called.code, called.out) == (0, "")
    out = data.with_name("train.chat.jsonl")
    assert f"3 rows read, 3 written to {out}" in called.err
    assert "question/answer (3 of the first 3 rows fit); columns not used: `id`" in called.err
    first = json.loads(out.read_text().splitlines()[0])
    assert [turn["content"] for turn in first["messages"]] == ["0?", "yes"]
    assert call("convert", data, "--to", "csv").code == 0
    assert data.with_name("train.csv").read_text().splitlines()[0] == "system,user,assistant"


def test_json_prints_the_counts(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text() + "{\n")
    out = tmp_path / "b.jsonl"
    called = call("convert", data, "--to", "alpaca", "--out", out, "--json")
    assert called.code == 0
    found = called.json
    assert {key: found[key] for key in ("rows", "kept", "refused", "written")} == {
        "rows": 4,
        "kept": 3,
        "refused": 1,
        "written": 3,
    }
    assert found["files"][0]["format"] == "question/answer"
    assert found["files"][0]["unused"] == ["id"]
    assert found["reasons"][0]["rows"] == 1
    assert found["reasons"][0]["first"] == [f"{data}:4"]
    assert found["out"] == str(out)


def test_stdout_only_when_asked(data: Path) -> None:
    called = call("convert", data, "--to", "prompt-completion", "--out", "-")
    assert [json.loads(line) for line in called.out.splitlines()] == [
        {"prompt": row["question"], "completion": row["answer"]} for row in ROWS
    ]
    assert "3 rows read, 3 written to stdout" in called.err
    assert called.out.endswith("}\n")  # so that more can be written behind it


def test_a_map_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frage,gut,schlecht\nHi,a,b\n")
    given = "user=frage, chosen=gut,rejected=schlecht"
    called = call("convert", path, "--to", "preference", "--out", "-", "--map", given)
    assert json.loads(called.out)["chosen"] == [{"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "chta"], 2, "did you mean `chat`?"),
        (["--to", "chat", "--map", "question"], 2, "--map user=COLUMN"),
        (["--to", "chat", "--map", "user=question,user=answer"], 2, "--map user=COLUMN"),
        (["--to", "chat", "--map", "usr=question"], 1, "did you mean `user`?"),
        (["--to", "chat", "--map", "user=question,assistant=anser"], 1, "did you mean `answer`?"),
        (["--to", "chat", "--out", "x.txt"], 2, "these endings are written"),
        (["--to", "csv", "--out", "x.jsonl"], 2, "name it `x.csv`"),
        (["--to", "csv", "--out", "-"], 2, "--out FILE"),
        (["--to", "chat", "--out", "-", "--json"], 2, "leave one away"),
        (["--to", "text"], 1, "none of the 3 rows can be written"),
        ([], 2, "--to"),
    ],
)
def test_what_is_refused(
    arguments: list[str], code: int, message: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    called = call("convert", data, *arguments)
    assert called.code == code
    assert message in called.err
    assert "Traceback" not in called.err
    assert [file.name for file in data.parent.iterdir()] == [data.name]


def test_no_file_is_replaced_unasked(data: Path) -> None:
    out = data.with_name("b.jsonl")
    out.write_text("old")
    called = call("convert", data, "--to", "chat", "--out", out)
    assert called.code == 2
    assert "is there already" in called.err
    assert out.read_text() == "old"
    assert call("convert", data, "--to", "chat", "--out", out, "--force").code == 0
    assert "messages" in out.read_text()
    called = call("convert", data, "--to", "chat", "--out", data, "--force")
    assert called.code == 2
    assert "the new file is the old one" in called.err


def test_a_folder_tells_what_it_did_not_read(data: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("about")
    called = call("convert", tmp_path, "--to", "chat", "--out", tmp_path.with_name("out.jsonl"))
    assert called.code == 0
    assert "1 files were not read, such as" in called.err


def test_a_place_that_cannot_be_written_to(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    called = call("convert", data, "--to", "chat", "--out", tmp_path / "file" / "b.jsonl", "--json")
    assert called.code == 1
    assert called.json["error"]["code"] == "run"
