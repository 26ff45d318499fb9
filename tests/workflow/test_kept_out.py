"""Golden questions in the data: their rows are left out, and what comes later is still found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.projects import questions, rows, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import DataError
from tunefork.core.events import Event, Warned, no_sink
from tunefork.data.items import Items
from tunefork.workflow import run as run_module
from tunefork.workflow.prepare import Prepared, prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project, load_project

ASKED = "who is dog b?"  # rows 2 and 14 of the project


def _project(folder: Path, asked: str | None, **spec: Any) -> Project:
    path = write_project(folder, "tiny", **spec)
    found = questions()
    if asked is not None:
        found.append({"question": asked, "reference": "naps", "grader": "contains"})
    write_lines(folder / "golden.jsonl", found)
    return load_project(path)


def _rows_of(prepared: Prepared) -> list[bytes]:
    held_out = prepared.data.validation
    both = [prepared.data.rows, *([held_out] if held_out is not None else [])]
    sets = [Items.of(each).rows for each in both]
    return sorted(each.row(at)[0].tobytes() for each in sets for at in range(len(each)))


@pytest.mark.parametrize("asked", [ASKED, "Who is DOG, b"])
def test_rows_that_ask_a_golden_question_are_left_out(asked: str, tmp_path: Path) -> None:
    events: list[Event] = []
    lines = rows()
    taken = [at for at, row in enumerate(lines) if row["user"] == ASKED]
    assert taken
    prepared = prepare(_project(tmp_path / "a", asked), events.append)
    said = [event.message for event in events if isinstance(event, Warned)]
    (finding,) = [text for text in said if "golden" in text]
    assert all(f"train.jsonl:{at + 1}" in finding for at in taken)
    assert finding in prepared.findings
    assert asked not in prepared.asked
    assert asked in prepared.kept_out
    # All the others are there: as if the file did not hold the rows.
    other = _project(tmp_path / "b", None)
    write_lines(other.folder / "train.jsonl", [row for row in lines if row["user"] != ASKED])
    assert _rows_of(prepared) == _rows_of(prepare(other, no_sink))


def test_they_are_left_out_of_a_validation_file_as_well(tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "validation": "held.jsonl"}
    project = _project(tmp_path, "who is yak?", data=data)
    held = [{"user": "who is yak?", "assistant": "a yak."}, {"user": "who?", "assistant": "you."}]
    write_lines(tmp_path / "held.jsonl", held)
    events: list[Event] = []
    prepared = prepare(project, events.append)
    assert prepared.data.validation is not None
    assert len(prepared.data.validation) == 1
    assert len(prepared.data.rows) == 24
    assert any("held.jsonl:1" in event.message for event in events if isinstance(event, Warned))


def test_where_nothing_is_left_it_says_so(tmp_path: Path) -> None:
    project = _project(tmp_path, "hi there")
    write_lines(tmp_path / "train.jsonl", [{"user": "Hi there!", "assistant": "Hello."}] * 9)
    with pytest.raises(DataError, match="golden question") as caught:
        prepare(project, no_sink)
    assert caught.value.hint


def test_a_run_goes_on_with_its_rows_and_finds_what_leaked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    base = save_model("llama", tmp_path / "base")
    spec = write_project(tmp_path / "project", base)
    golden = tmp_path / "project" / "golden.jsonl"
    leaking = {"question": ASKED, "reference": "naps", "grader": "contains"}
    write_lines(golden, [*questions(), leaking])
    out = tmp_path / "run"
    first = run_project(load_project(spec), out=out, sink=no_sink)
    assert any("No golden question occurs" in reason for reason in first["reasons"])
    # Another question, which the model was trained on; and the first one is asked no more.
    other = {"question": "who is cat a?", "reference": "naps", "grader": "contains"}
    write_lines(golden, [*questions(), other])
    second = run_project(load_project(spec), out=out, resume=True, sink=no_sink)
    assert second["verdict"] == "hold"
    assert any("1 golden question is also in the training" in each for each in second["reasons"])
    assert second["held_out"]["rows"] == first["held_out"]["rows"]
    assert second["held_out"]["tuned_loss"] == first["held_out"]["tuned_loss"]
