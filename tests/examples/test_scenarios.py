"""Projects with different right answers: from what was measured of them, and for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunefork.core.events import no_sink
from tunefork.evaluation import Climbed, Cost, GateSettings, build_ladder, recommend
from tunefork.graders import Grade
from tunefork.workflow.compare import compare_project
from tunefork.workflow.compare_ladder import Wanted
from tunefork.workflow.spec import load_project

SCENARIOS = Path(__file__).parents[2] / "examples" / "scenarios"
RECORDED = Path(__file__).parent / "scenarios.json"  # scores of each answer, of a real run
# How the reason begins, and what the gate says of the tuned model.
_RIGHT: dict[str, tuple[str | tuple[str, ...], str]] = {
    "prompt": ("A prompt is enough: ", "hold"),
    # Whether the goal is worth a sentence before the passages hangs on a few of 60 questions.
    "retrieval": (("Retrieval is enough: ", "A prompt with retrieval is enough: "), "hold"),
    "tune": ("Tune: ", "ship"),
    "hold": ("Do not ship; keep the base. `tuned`: it scores ", "hold"),
}


def test_there_is_a_record_of_each_scenario() -> None:
    folders = {path.parent.name for path in SCENARIOS.glob("*/tunefork.yaml")}
    assert folders == _RIGHT.keys() == json.loads(RECORDED.read_text()).keys()


@pytest.mark.parametrize("name", _RIGHT)
def test_what_was_measured_gives_the_right_recommendation(name: str) -> None:
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())[name]
    climbed = [
        Climbed(
            rung,
            ("",) * len(scores),
            tuple(Grade(score, score >= 0.5, "") for score in scores),
            Cost(None, None, 0.0),
            "",
        )
        for rung, scores in recorded["rungs"].items()
    ]
    ladder = build_ladder(climbed, recorded["groups"], 0.95)
    found = recommend(ladder, GateSettings(), recorded["ruled_out"])
    begin, _ = _RIGHT[name]
    assert found.reason.startswith(begin)


@pytest.mark.soak
@pytest.mark.parametrize("name", _RIGHT)
def test_the_project_itself_ends_in_the_right_recommendation(name: str, tmp_path: Path) -> None:
    project = load_project(SCENARIOS / name)
    result = compare_project(project, Wanted(), out=tmp_path / "run", sink=no_sink)
    begin, verdict = _RIGHT[name]
    assert result["recommendation"]["reason"].startswith(begin), result["recommendation"]["reason"]
    assert result["verdict"] == verdict, result["reasons"]
