"""Our worker, for real, on a very small model."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cells import Cell
from benchmarks.contest import Contest
from benchmarks.measure import Runner
from benchmarks.workers import ours
from benchmarks.workers.common import RefusedError, Rows
from benchmarks.workloads import Workload
from tests.small import save_model


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    folder = str(save_model("llama", tmp_path / "model"))
    workload = Workload("small", "a test", folder, "support", row_tokens=16)
    return Contest(workload, Runner(tmp_path / "work", tmp_path), learning_rate=0.01)


def test_a_cell_and_its_limit(contest: Contest) -> None:
    outcome = contest.measure(Cell("ours", "float32"), counted=2)
    assert outcome.refused == ""
    found = outcome.result
    assert len(found["seconds"]) == len(found["losses"]) == len(found["gradient_norms"]) == 4
    assert found["tokens"] == [128] * 4
    assert found["tokens_per_second"] == pytest.approx(256 / sum(found["seconds"][2:]))
    assert all(map(math.isfinite, found["losses"]))
    assert found["losses"][-1] < found["losses"][0]
    assert found["peak_absolute_bytes"] > found["peak_bytes"] >= 0
    limit = contest.limit(outcome.cell, counted=2)
    assert limit > found["tokens_per_second"]


def test_full_training_in_fewer_rows_at_once_is_the_same_work(contest: Contest) -> None:
    contest = replace(contest, is_full=True)
    losses = []
    for rows_at_once in (0, 3):
        job = contest.job(Cell("ours", "float32", rows_at_once=rows_at_once), counted=2)
        losses.append(ours.measure(job, Rows.load(job.rows))["losses"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_a_failing_worker_is_a_refusal(contest: Contest) -> None:
    cell = Cell("ours", "float32")
    job = replace(contest.job(cell, counted=1), rows="nowhere.npz")
    assert "nowhere" in contest.runner.run(cell, job).refused


def test_a_number_format_that_we_do_not_have() -> None:
    with pytest.raises(RefusedError, match="amp"):
        ours.engine_settings(Cell("ours", "amp").settings())
