"""The benchmark of many adapters measures what it says, in little."""

import torch

from benchmarks.serve import QUICK, measure


def test_every_figure_is_there() -> None:
    found = measure(torch.float32, 1, QUICK)
    assert found["ratio_to_best_peer"] > 0
    assert found["sixteen_over_one"] > 0
    assert found["memory"]["adapters"] == QUICK.adapters
    assert found["cold_load_ms"]["p50"] > 0
    assert found["first_token_under_load_ms"].keys() == {
        "resident_p50",
        "resident_p95",
        "cold_p50",
        "cold_p95",
    }
