"""The GPU benchmark, tried out on the processor with a very small model."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.cells import OURS
from benchmarks.model import GPU_SHAPES, save_shape
from benchmarks.workers import device
from benchmarks.workers.limit import Shape
from tests.benchmarks.outcomes import outcome

_DEVICE = {"device": "cuda", "name": "NVIDIA H200", "product_flops": 7e14}


def test_our_cells_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    given = "--json --device cpu --shape small --workload support --contestants ours --steps 1"
    assert gpu.main(given.split()) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "out" / "gpu.json").read_text(encoding="utf-8"))
    assert next(iter(record)) == "ratio_to_best_peer"
    assert record["ratio_to_best_peer"] is None
    assert record["peak"]["source"] == "measured matrix products in bf16"
    kept, again = record["cells"]
    assert [cell["name"] for cell in (kept, again)] == ["bf16, grouped", "bf16, grouped, recompute"]
    for cell in (kept, again):
        assert "refused" not in cell
        # A processor without bf16 instructions is faster in other formats: no bound above.
        assert cell["share_of_peak"] > 0
        assert len(cell["losses"]) == 5
        assert cell["losses"][0] == pytest.approx(math.log(512), abs=0.1)
        assert cell["moved"] > 0
    assert kept["losses"] == pytest.approx(again["losses"], abs=0.01)
    assert "| tunefork | bf16, grouped |" in gpu.markdown(record)


def test_flops_are_those_of_the_products(tmp_path: Path) -> None:
    save_shape("small", tmp_path)
    sizes = Shape.of(str(tmp_path))
    # hidden 64, keys 32, MLP 128, two layers, vocabulary 512
    frozen = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3
    low = 16 * (128 * 2 + 96 * 2 + 192 * 3)
    linear = 2 * (4 * frozen + 6 * low) * 30
    attention = 2 * 6 * 64 * (10**2 + 20**2)
    assert sizes.lora_flops([10, 20], 12) == linear + attention + 4 * 64 * 512 * 12


def test_flops_of_long_rows_approach_four_per_weight(tmp_path: Path) -> None:
    save_shape("7b", tmp_path)
    flops = Shape.of(str(tmp_path)).lora_flops([100], 100)
    assert flops / (100 * 4 * 5.93e9) == pytest.approx(1, abs=0.02)


def test_shapes_are_in_order_of_size(tmp_path: Path) -> None:
    weights = []
    for name in GPU_SHAPES:
        save_shape(name, tmp_path / name)
        sizes = Shape.of(str(tmp_path / name))
        weights.append(sizes.layers * sum(into * out for into, out in sizes.linear()))
    assert weights == sorted(weights)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_known_gpus(name: str, teraflops: float) -> None:
    assert device.peak({**_DEVICE, "name": name})["flops"] == teraflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A10G", "Some GPU"])
def test_unknown_gpus_are_measured(name: str) -> None:
    found = device.peak({**_DEVICE, "name": name})
    assert found == {"flops": 7e14, "source": "measured matrix products in bf16"}


def test_weights_and_adapters_begin_alike_under_any_wrapping() -> None:
    first, second = nn.Linear(8, 4), nn.Linear(8, 4)
    for module in (first, second):
        device.fill_weights(module.named_parameters())
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, torch.ones(4))
    ours, peers, low = torch.zeros(2, 8), torch.zeros(2, 8), torch.zeros(4, 2)
    device.fill_adapter([("layer.lora_A.weight", ours), ("layer.lora_B.weight", low)])
    device.fill_adapter([("layer.lora_A.default.weight", peers)])
    assert torch.equal(ours, peers)
    assert ours.any()
    assert not low.any()


class _Slow(gpu.Workers):
    """Workers that take a given time each, and work on no device."""

    def start(self, worker: str, argument: str, timeout_s: float) -> dict[str, Any]:
        clock.now += 60
        return {"refused": f"no time measured here in {timeout_s:.0f} s"}


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


clock = _Clock()


def _session(folder: Path, minutes: float, workers: type[gpu.Workers]) -> gpu.Session:
    options = argparse.Namespace(
        shape=["135m", "1.5b"],
        workload=["2048"],
        contestants=[OURS],
        device="cpu",
        steps=1,
        out=folder / "gpu.json",
    )
    budget = gpu.Budget(clock() + 60 * minutes, clock)
    record: dict[str, Any] = {"skipped": [], "cells": []}
    return gpu.Session(workers(folder, ""), budget, options, record)


def test_every_shape_gets_its_part_of_the_time(tmp_path: Path) -> None:
    session = _session(tmp_path, 2.4, _Slow)
    session.run([])
    assert [cell["where"] for cell in session.record["cells"]] == ["135m 2048", "1.5b 2048"]
    assert len(session.record["skipped"]) == 2
    assert "recompute" in session.record["skipped"][0]
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")) == session.record


def test_a_budget_knows_how_long_cells_take() -> None:
    budget = gpu.Budget(clock() + 100, clock)
    budget.begin_shape(1)
    assert budget.allows_another
    budget.longest = 101
    assert not budget.allows_another
    assert budget.cell_seconds == 100


class _Full(gpu.Workers):
    """Workers on a device without memory."""

    def start(self, worker: str, argument: str, timeout_s: float) -> dict[str, Any]:
        return {"refused": "CUDA out of memory"}


def test_what_runs_out_of_memory_is_tried_with_fewer_rows(tmp_path: Path) -> None:
    session = _session(tmp_path, 60, _Full)
    session.run([])
    tried = [cell["name"] for cell in session.record["cells"][:3]]
    assert tried == ["bf16, grouped", "bf16, grouped, 2 at once", "bf16, grouped, 1 at once"]


def test_cells_follow_what_is_there() -> None:
    first, others = gpu.cells(gpu.CONTESTANTS, ["TRL"], "cuda")
    assert [cell.contestant for cell in first] == ["ours", "trl"]
    assert not any(cell.kernels for cell in first + others)
    assert not first[1].is_packed
    found = ["TRL", "Liger Kernel", "Unsloth", "FlashAttention"]
    first, others = gpu.cells(gpu.CONTESTANTS, found, "cuda")
    assert [cell.name for cell in first] == [
        "bf16, grouped",
        "liger, bf16, grouped, packed",
        "bf16, grouped, packed",
    ]
    assert len(set(first + others)) == len(first + others) == 10


def test_the_headline_is_the_largest_shape() -> None:
    ours, theirs = outcome(gpu.GpuCell(OURS), 300, 50), outcome(gpu.GpuCell("trl"), 200, 100)
    proven = outcome(gpu.GpuCell("trl", kernels="liger"), 150, 200)
    proven.work["is_same"] = True
    theirs.work["is_same"] = False
    found = gpu.contest([ours, theirs, proven])
    assert found["ratio_to_best_peer"] == 2
    assert found["best_peer"] == "TRL: liger, bf16, grouped"
    assert found["fastest_memory_share"] == 0.25
    contests = {
        "135m support": {"ratio_to_best_peer": 1.5},
        "1.5b support": found,
        "1.5b math": {"ratio_to_best_peer": 3.0},
        "7b support": {"ratio_to_best_peer": None},
    }
    assert gpu.headline(contests) == {
        "ratio_to_best_peer": 2,
        "headline": "1.5b support",
        "smallest_ratio": 1.5,
    }
