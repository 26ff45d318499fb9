"""What a model says when asked for its training rows is compared with them word for word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.projects import write_project
from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.data import Items
from tunefork.inference import ChatModel, Decoding, Generated
from tunefork.workflow import memorised as module
from tunefork.workflow.memorised import memorised
from tunefork.workflow.prepare import Prepared, prepare
from tunefork.workflow.report_parts import data_findings, read_remembered
from tunefork.workflow.spec import Project, load_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("memorised")
    return load_project(write_project(folder, save_model("llama", folder / "base"), count=60))


@pytest.fixture(scope="module")
def prepared(project: Project) -> Prepared:
    return prepare(project, no_sink)


def _chat(prepared: Prepared) -> ChatModel:
    return ChatModel(None, prepared.renderer, 128)


def _parrot(prepared: Prepared, ended: str, cut: int | None) -> Any:
    """Return a stand-in for `generate` that knows all rows by heart."""
    rows = Items.of(prepared.data.rows).rows

    def generate(model: Any, prompts: Any, ends: Any, decoding: Decoding, **_: Any) -> Any:
        found = []
        for prompt in prompts:
            ids = next(
                ids.tolist()
                for ids, _ in (rows.row(at) for at in range(len(rows)))
                if ids.tolist()[: len(prompt)] == list(prompt)
            )
            answer = [token for token in ids[len(prompt) :] if token not in ends]
            found.append(Generated(tuple(answer[:cut]), ended))  # type: ignore[arg-type]
        return found

    return generate


@pytest.mark.parametrize(("ended", "cut"), [("stop", None), ("length", 6)])
def test_a_parrot_is_found_out(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, ended: str, cut: int | None
) -> None:
    monkeypatch.setattr(module, "generate", _parrot(prepared, ended, cut))
    found = memorised(_chat(prepared), prepared, no_sink)
    assert found is not None
    assert found.exact == found.rows == min(50, len(prepared.data.rows))
    assert found.longest_share == 1


def test_a_model_that_stops_early_did_not_give_the_row(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "generate", _parrot(prepared, "stop", 6))
    found = memorised(_chat(prepared), prepared, no_sink)
    assert found is not None
    assert found.exact == 0


def test_rows_without_answers_are_not_asked_for(prepared: Prepared) -> None:
    assert memorised(_chat(prepared), replace(prepared, kind="text"), no_sink) is None


def test_findings_hold_what_the_check_says_and_survive_a_file_that_is_gone(
    project: Project, prepared: Prepared, tmp_path: Path
) -> None:
    found = data_findings(project, prepared, no_sink)
    assert {each.severity for each in found} <= {"error", "warning", "note"}
    assert any(each.count > 1 and each.hint for each in found)
    gone = project.model_copy(update={"folder": tmp_path})
    assert [each.message for each in data_findings(gone, prepared, no_sink)] == list(
        prepared.findings
    )


def test_the_curve_of_what_was_forgotten_is_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "forgetting": 0.01}\n')
    assert read_remembered(path) == ((2, -0.01),)
