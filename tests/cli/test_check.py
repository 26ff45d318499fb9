"""`tunefork check` and `tunefork select`, as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.data.doctor.made import good_pairs, write_pairs


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    pairs = [*good_pairs(), good_pairs()[0], ("Next?", ""), ("Mail?", "It is joe@example.org.")]
    return write_pairs(tmp_path / "train.jsonl", pairs)


def test_findings_as_json(messy: Path) -> None:
    called = call("check", messy, "--base", "none", "--json")
    assert called.code == 1
    assert called.json["rows"] == 43
    assert called.json["format"] == "user/assistant"
    found = {each["code"]: each for each in called.json["findings"]}
    assert found["empty"]["rows"] == [42]
    assert found["duplicate.exact"]["rows"] == [41]
    assert found["pii.email"]["severity"] == "warning"
    for each in called.json["findings"]:
        assert {"code", "severity", "count", "rows", "message", "hint"} <= each.keys()


def test_findings_as_text_come_by_severity(messy: Path) -> None:
    called = call("check", messy, "--base", "none")
    assert called.code == 1
    assert called.out.index("[empty]") < called.out.index("[pii.email]")
    assert "joe@" not in called.out
    assert "1 error, " in called.out


def test_sound_data_exits_with_zero_and_the_base_counts_tokens(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "train.jsonl", [*good_pairs(), ("Long?", "word " * 3000 + ".")])
    called = call("check", path, "--json")
    assert called.code == 0
    found = {each["code"]: each for each in called.json["findings"]}
    assert found["too_long"]["rows"] == [41]


def test_leaks_and_what_is_lacking(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "train.jsonl", good_pairs())
    held = write_pairs(tmp_path / "held.jsonl", good_pairs()[:2])
    golden = tmp_path / "golden.jsonl"
    golden.write_text(json.dumps({"question": good_pairs()[3][0], "reference": "x"}) + "\n")
    asked = tmp_path / "asked.txt"
    asked.write_text("Which vaccine does a puppy need?\n", encoding="utf-8")
    options = ["--validation", held, "--golden", golden, "--against", asked, "--base", "none"]
    called = call("check", path, *options, "--json")
    found = {each["code"]: each["count"] for each in called.json["findings"]}
    assert found["leak.validation"] == 2
    assert found["leak.golden"] == 1
    assert found["unrepresentative"] == 1
    assert called.code == 1
    out = tmp_path / "clean.jsonl"
    fixed = call("check", path, *options, "--fix", out, "--json").json["fixed"]
    assert fixed["counts"] == {"leak.golden": 1, "leak.validation": 2}
    assert call("check", out, *options[:4], "--base", "none", "--json").code == 0


def test_fix_and_report(messy: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "clean.jsonl", tmp_path / "page.html"
    options = ["--base", "none", "--fix", out, "--report", page, "--json"]
    called = call("check", messy, *options)
    assert called.json["fixed"]["kept"] == 41
    assert called.json["fixed"]["dropped"] == 2
    assert len(out.read_text().splitlines()) == 41
    assert Path(called.json["fixed"]["changes"]).is_file()
    assert "Not yet ready" in page.read_text(encoding="utf-8")
    again = call("check", out, "--base", "none", "--json")
    assert again.code == 0
    assert {each["code"] for each in again.json["findings"]} == {"too_few"}


def test_other_columns_by_map(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    lines = "".join(f'"{asked}","{said}"\n' for asked, said in good_pairs())
    path.write_text("frage,antwort\n" + lines, encoding="utf-8")
    called = call(
        "check", path, "--map", "user=frage,assistant=antwort", "--base", "none", "--json"
    )
    assert called.code == 0
    assert called.json["rows"] == 40


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--map", "user"], 2),
        (["--map", "user=nothing,assistant=assistant"], 1),
        (["--fix", "clean.csv"], 2),
        (["--fix", "{file}"], 2),
        (["--report", "{file}"], 2),
        (["--validation", "nothing.jsonl"], 1),
        (["--base", "nothing"], 1),
    ],
)
def test_bad_options_have_one_clear_message(messy: Path, options: list[str], code: int) -> None:
    before = messy.read_bytes()
    called = call("check", messy, *[each.format(file=messy) for each in options], "--json")
    assert called.code == code
    assert called.json["error"]["hint"]
    assert "Traceback" not in called.err
    assert messy.read_bytes() == before


@pytest.mark.parametrize("text", ["", "\n", "{", "nonsense", '{"a": 1}\n', "[]", "\0"])
def test_files_that_are_no_data(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(text, encoding="utf-8")
    called = call("check", path, "--base", "none", "--json")
    assert called.code == 1
    assert called.json["error"]["message"]


def test_select(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "best.jsonl"
    called = call("select", messy, "--keep", 10, "--out", out, "--base", "none", "--json")
    assert called.code == 0
    assert (called.json["kept"], called.json["clean"]) == (10, 40)
    known = [{"user": asked, "assistant": said} for asked, said in good_pairs()]
    chosen = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row in known for row in chosen)
    assert call("select", messy, "--keep", 10, "--out", messy, "--base", "none").code == 2


def test_the_command_line_loads_none_of_the_libraries() -> None:
    code = "import sys, tunefork.cli, tunefork.cli.app; print(sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("rensa", "ftfy", "py3langid", "numpy"):
        assert f"'{name}'" not in found.stdout
