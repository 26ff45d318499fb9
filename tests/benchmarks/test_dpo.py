"""The preference benchmark: its pairs, our worker for real, and the arithmetic of the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import dpo
from benchmarks.workers import ours_dpo
from benchmarks.workers.common import Job, Rows
from benchmarks.workloads import PAIRS, make_pair_steps
from tests.benchmarks.outcomes import outcome
from tests.small import VOCABULARY, save_model
from tunefork.models import find_base, load_model
from tunefork.strategies import Lora, LoraSettings


def test_both_answers_of_a_pair_begin_with_its_prompt() -> None:
    steps = make_pair_steps(PAIRS, 1000, counted=2)
    assert [len(step) for step in steps.plain] == [2 * PAIRS.rows_per_step] * 3
    for chosen, rejected in zip(steps.plain[1][::2], steps.plain[1][1::2], strict=True):
        assert rejected == chosen + 1
        prompt = int(steps.rows.prompts[chosen])
        assert steps.rows.row(chosen)[0][:prompt] == steps.rows.row(rejected)[0][:prompt]
    lengths = [steps.rows.lengths[step].sum() for step in steps.plain]
    assert lengths[0] > lengths[1] > lengths[2]  # the longest warms up


def test_savings_do_not_change_what_is_learned(tmp_path: Path) -> None:
    base = save_model("llama", tmp_path / "base")
    model = load_model(find_base(str(base)))
    strategy = Lora(LoraSettings(rank=4))
    strategy.attach(model, 1)
    (tmp_path / "adapter").mkdir()
    strategy.save(model, tmp_path / "adapter", find_base(str(base)))
    ids = list(range(4, 60))
    rows = [[*ids[:40], at % VOCABULARY, 5] for at in range(60, 68)]
    made = Rows(*_flat(rows, 40))
    made.save(tmp_path / "rows.npz")
    losses = []
    for shares, reference in ((True, "kept"), (False, "kept"), (True, "each")):
        cell = {"dtype": "float32", "is_checkpointed": False, "is_compiled": False, "beta": 0.1}
        job = Job(
            model=str(base),
            adapter=str(tmp_path / "adapter"),
            rows=str(tmp_path / "rows.npz"),
            steps=[[0, 1, 2, 3], [4, 5, 6, 7]],
            warm_up=1,
            learning_rate=1e-2,
            cell={**cell, "shares": shares, "reference": reference},
        )
        losses.append(ours_dpo.measure(job, Rows.load(job.rows))["losses"])
    assert losses[0][0] == pytest.approx(0.6931, abs=1e-3)  # nothing moved yet
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def _flat(rows: list[list[int]], prompt: int) -> tuple[Any, Any, Any]:
    offsets = np.cumsum([0, *map(len, rows)])
    return np.concatenate(rows).astype(np.int32), offsets, np.full(len(rows), prompt)


def test_the_gain_is_told_apart() -> None:
    full, trl, _, alone, each, *_ = dpo.setups("glibc")
    speeds = {full: 600.0, trl: 100.0, alone: 400.0, each: 450.0}
    found = {setup: outcome(setup.cell, speed, int(speed)) for setup, speed in speeds.items()}
    record = dpo.record_of(found, 2)
    assert record["ratio_to_best_peer"] == pytest.approx(6)
    assert record["cells"][0]["processor_seconds_per_pair"] == pytest.approx(2 / 3)
    assert record["gain"]["shared prompt"] == pytest.approx(1.5)
    assert record["gain"]["engine, beside TRL's fastest"] == pytest.approx(4)
    assert record["gain"]["kept references"] == pytest.approx(600 / 450)
    assert record["cells"][0]["pairs_per_second"] == 3
    assert "6.00 times" in dpo.markdown(record)
    refused = {**found, trl: replace(found[trl], refused="no memory")}
    assert dpo.record_of(refused, 2)["ratio_to_best_peer"] is None
