"""LoRA fine-tuning against the peers: `python -m benchmarks.sft --json`."""

from __future__ import annotations

import sys

from benchmarks.command import Benchmark, run
from benchmarks.workloads import MATH, SUPPORT, SYSTEM, TINY

SFT = Benchmark(
    name="sft",
    title="LoRA fine-tuning on a CPU",
    settings=(
        "LoRA of rank 16 on all linear layers but the head, AdamW at 2e-4, clipped at 1, answers "
        "only, 8 rows per step; `135m` is 30 layers of width 576 with random weights."
    ),
    workloads=(SUPPORT, MATH, SYSTEM, TINY),
    learning_rate=2e-4,
    has_sweeps=True,
)

if __name__ == "__main__":
    sys.exit(run(SFT))
