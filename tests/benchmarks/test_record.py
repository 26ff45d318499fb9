"""From the first cell to the tables, with made-up measurements in place of workers."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks import command
from benchmarks.cells import Cell
from benchmarks.command import Benchmark
from benchmarks.contest import Effort
from benchmarks.measure import Runner
from benchmarks.report import markdown
from benchmarks.workers.common import Job
from benchmarks.workloads import Workload
from tests.benchmarks.outcomes import result
from tests.small import save_model

EFFORT = Effort(rounds=3, screened=1, repeated=2)
SPEEDS = {"ours": 300, "trl": 100, "trainer": 150}
PEAKS = {"ours": 1_000_000, "trl": 2_000_000, "trainer": 5_000_000}


@dataclass(frozen=True)
class MadeUp(Runner):
    losses: dict[str, float] = field(default_factory=dict)
    started: list[tuple[str, int]] = field(default_factory=list)

    def _start(self, worker: str, allocator: str, job: Job) -> dict[str, Any]:
        self.started.append((worker, job.round))
        if worker == "limit":
            return {"tokens_per_second": 1200.0}
        if job.cell["is_compiled"]:
            return {"refused": "no compiler"}
        slower = 2 if job.cell["dtype"] == "float32" else 1
        leaner = 2 if job.cell["is_checkpointed"] else 1
        speed = SPEEDS[worker] / slower / leaner
        losses = (self.losses.get(worker, 5.0),) * len(job.steps)
        return result(speed, PEAKS[worker] // leaner, losses)


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    folder = str(save_model("llama", tmp_path / "model"))
    workloads = tuple(
        Workload(name, "a test", folder, "support", row_tokens=16) for name in ("one", "two")
    )
    return Benchmark("sft", "A test", "Settings.", workloads, 1e-3, has_sweeps=True)


def _measure(benchmark: Benchmark, runner: Runner) -> dict[str, Any]:
    return command.measure(benchmark, runner, ["ours", "trl", "trainer"], EFFORT)


def test_the_record(benchmark: Benchmark, tmp_path: Path) -> None:
    runner = MadeUp(tmp_path / "work", tmp_path)
    record = _measure(benchmark, runner)
    assert next(iter(record)) == "ratio_to_best_peer"
    assert record["ratio_to_best_peer"] == record["smallest_ratio"] == 2.0
    one = record["workloads"]["one"]
    assert (one["best_peer"], one["memory"]["leanest_peer"]) == ("trainer", "trl")
    assert one["memory"]["leanest_share"] == 0.5
    assert one["memory"]["fastest_share"] == 0.2
    assert one["share_of_limit"] == 0.25
    assert one["finalists"]["ours"]["fastest"]["tokens_per_second_rounds"] == [300.0] * 3
    assert record["sweeps"]["rows per step"][0]["ratio"] == 2.0
    text = markdown(json.loads(json.dumps(record)))
    assert "**2.00 times** the tokens/s of the best peer, Trainer + peft" in text
    assert "no compiler" in text
    assert "**Disturbed**: other programs used up to 0.3 cores" in text
    assert "| 4 rows per step | Trainer + peft | 300 | 150 | 2.00 |" in text


def test_the_best_cells_are_repeated_in_turn(benchmark: Benchmark, tmp_path: Path) -> None:
    runner = MadeUp(tmp_path / "work", tmp_path)
    _measure(benchmark, runner)
    for turn in (1, 2, 3):
        of_turn = [worker for worker, round_ in runner.started if round_ == turn]
        assert set(of_turn) == {"ours", "trl", "trainer"}


def test_no_ratio_where_the_work_was_not_the_same(benchmark: Benchmark, tmp_path: Path) -> None:
    record = _measure(benchmark, MadeUp(tmp_path / "work", tmp_path, losses={"trainer": 5.5}))
    assert record["ratio_to_best_peer"] is None
    assert record["workloads"]["one"]["same_work"]["trl"]["is_same"]
    assert record["workloads"]["one"]["best_peer"] == "trl"
    text = markdown(record)
    assert "No ratio: the work was not shown to be the same as that of Trainer + peft" in text
    assert "another, not counted: loss 0.5000" in text


def test_finished_cells_are_not_measured_again(benchmark: Benchmark, tmp_path: Path) -> None:
    first = MadeUp(tmp_path / "work", tmp_path)
    record = _measure(benchmark, first)
    again = MadeUp(tmp_path / "work", tmp_path)
    assert _measure(benchmark, again)["workloads"] == record["workloads"]
    assert {worker for worker, _ in again.started} == {"limit"}


def test_a_disturbed_cell_is_measured_again(tmp_path: Path) -> None:
    class Busy(MadeUp):
        def _start(self, worker: str, allocator: str, job: Job) -> dict[str, Any]:
            others = (0.9, 0.2, 0.4)[len(self.started)]
            speed = len(self.started) + 1.0
            self.started.append((worker, 0))
            return {**result(speed, 1), "other_cores": others}

    runner = Busy(tmp_path, tmp_path)
    job = Job("model", None, "rows", [[0]], 0, 1e-3, Cell("ours").settings())
    assert runner.run(Cell("ours"), job).speed == 2.0
    assert len(runner.started) == 3


def test_without_the_peers_it_says_how_to_get_them(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(benchmark, ["--peers", str(tmp_path / "python")]) == 1
    assert "make bench" in capsys.readouterr().err
