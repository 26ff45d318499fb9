"""Full fine-tuning against the peers: `python -m benchmarks.full --json`."""

from __future__ import annotations

import sys

from benchmarks.command import Benchmark, run
from benchmarks.workloads import SUPPORT, TINY

FULL = Benchmark(
    name="full",
    title="Full fine-tuning on a CPU",
    settings=(
        "All weights, AdamW at 2e-5, clipped at 1, answers only, 8 rows per step; `135m` is 30 "
        "layers of width 576 with random weights. We keep float32 masters in every cell; the "
        "peers do in `float32` and `amp` only."
    ),
    workloads=(SUPPORT, TINY),
    learning_rate=2e-5,
    is_full=True,
)

if __name__ == "__main__":
    sys.exit(run(FULL))
