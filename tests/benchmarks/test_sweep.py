"""An eight-way sweep beside full runs, with made-up runs in place of processes."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import sweep
from benchmarks.projects import CATGPT, standing_alone
from tunefork.core.files import write_json
from tunefork.workflow.spec import Spec, load_project

_LOSSES = {1e-4: 0.5, 1e-3: 0.2, 1e-2: 0.9}
_OVER = ["learning_rate=1e-4,1e-3,1e-2"]


class MadeUp:
    """Writes what a command leaves behind, and tells which ran; the clock moves with each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, winner: str, cost: float) -> None:
        self.started: list[str] = []
        self._winner, self._cost, self._seconds = winner, cost, 0.0
        monkeypatch.setattr(sweep, "call", self.call)
        monkeypatch.setattr(sweep, "_worked", lambda: self._seconds)

    def call(self, command: str, spec: Spec, folder: Path, home: Path, options: Any = ()) -> None:
        self.started.append(command)
        self._seconds += self._cost if command == "sweep" else 10.0
        rate = spec.training.learning_rate
        if command == "train":
            assert isinstance(rate, float)
            write_json(
                folder / "run" / "result.json", {"validation_loss": _LOSSES[rate], "steps": 8}
            )
            return
        assert options == ("--over", _OVER[0])
        names = [f"learning_rate={text}" for text in ("1e-4", "1e-3", "1e-2")]
        rows = [{"name": name, "validation_loss": 0.4, "steps": 4} for name in names]
        result = {"winner": self._winner, "validation_loss": 0.2, "candidates": rows}
        write_json(folder / "run" / "sweep.json", result)


@pytest.mark.parametrize(
    ("winner", "cost", "is_same", "is_within"),
    [
        ("learning_rate=1e-3", 12.0, True, True),
        ("learning_rate=1e-4", 18.0, False, False),
    ],
)
def test_time_and_winner_are_compared(
    winner: str,
    cost: float,
    is_same: bool,
    is_within: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = MadeUp(monkeypatch, winner, cost)
    spec = standing_alone(load_project(CATGPT), training={"epochs": 2})
    record = sweep.measure(spec, _OVER, tmp_path)
    assert (record["is_same_winner"], record["is_within_bound"]) == (is_same, is_within)
    assert record["share_of_time"] == pytest.approx(cost / 30)
    assert f"**{cost / 30:.2f} of theirs.**" in sweep.markdown(record)
    assert runs.started == ["sweep", "train", "train", "train"]
    assert sweep.measure(spec, _OVER, tmp_path) == record  # what was measured is kept
    assert len(runs.started) == 4


def test_a_spec_stands_alone_wherever_it_is_written(tmp_path: Path) -> None:
    spec = standing_alone(load_project(CATGPT), strategy="prefix")
    write_json(tmp_path / "spec.json", spec.model_dump(mode="json"))
    found = load_project(tmp_path / "spec.json")
    assert found.path(found.spec.data.first).is_file()
    assert found.spec.strategy.name == "prefix"
