"""How far training moved the weights: tells whether optimizers did the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open

from benchmarks.workers.common import Job


@torch.no_grad()
def distance_moved(job: Job, weights: Iterable[tuple[str, torch.Tensor]]) -> float:
    """Return the Euclidean distance from the first weights, of B alone where LoRA is trained.

    Args:
        job: What was done.
        weights: What was trained, by the names that it has on disk; masters where there are any.
    """
    named = dict(weights)
    if job.adapter is not None:  # B begins at zero
        changes = [tensor.float() for name, tensor in named.items() if ".lora_B." in name]
        return math.sqrt(sum(float(change.square().sum()) for change in changes))
    total = 0.0
    for path in sorted(Path(job.model).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                change = named.pop(name).float() - file.get_tensor(name).float()
                total += float(change.square().sum())
    assert not named, f"not in the model's files: {sorted(named)}"
    return math.sqrt(total)
