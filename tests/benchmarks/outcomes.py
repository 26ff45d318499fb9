"""Made-up measurements."""

from __future__ import annotations

from typing import Any

from benchmarks.cells import Cell
from benchmarks.measure import Outcome


def result(speed: float, peak: int, losses: tuple[float, ...] = (5.0, 4.0)) -> dict[str, Any]:
    return {
        "tokens_per_second": speed,
        "rows_per_second": speed / 100,
        "seconds": [1.0] * len(losses),
        "processor_seconds": [2.0] * len(losses),
        "tokens": [100] * len(losses),
        "losses": list(losses),
        "gradient_norms": [1.0] * len(losses),
        "moved": 1.0,
        "other_cores": 0.3,
        "peak_bytes": peak,
        "peak_training_bytes": peak,
        "peak_absolute_bytes": peak + 1000,
        "versions": {"torch": "2"},
    }


def outcome(cell: Cell, speed: float = 100, peak: int = 1000, **more: Any) -> Outcome:
    return Outcome(cell, result(speed, peak, **more))
