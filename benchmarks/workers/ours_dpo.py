"""Measure one cell of tunefork's `dpo`."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.workers.common import Job, Meter, Rows, run_worker
from benchmarks.workers.moved import distance_moved
from benchmarks.workers.ours import DTYPES, engine_settings, token_rows
from tunefork.core.memory import keep_few_kernels, keep_freed_memory
from tunefork.data import Items
from tunefork.models import collate, find_base, load_model, pack
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives import REFERENCE, Dpo
from tunefork.strategies import Lora
from tunefork.training import TrainSettings, TrainStep
from tunefork.training.optimizer import MasterAdamW
from tunefork.workflow.derive import tokens_at_once


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps as `training.loop.train` does, which shuffles pairs itself."""
    base = find_base(job.model)
    settings = TrainSettings(
        epochs=1,
        learning_rate=job.learning_rate,
        batch_tokens=1,
        micro_tokens=tokens_at_once(base, "cpu"),
        warmup=0,
        final_learning_rate=1,  # constant
        **engine_settings(job.cell),
    )
    shares, is_kept = job.cell["shares"], job.cell["reference"] == "kept"
    found = token_rows(rows)
    items = Items(found, np.arange(0, len(found) + 1, 2))
    steps = [[row // 2 for row in step[::2]] for step in job.steps]
    meter = Meter()
    keep_freed_memory()
    keep_few_kernels()
    meter.before_model()
    model = load_model(base, device="cpu", dtype=DTYPES[job.cell["dtype"]])
    begun = time.perf_counter()
    reference = _reference(model, items, list(chain(*steps)), settings, shares) if is_kept else None
    reference_s = time.perf_counter() - begun
    assert job.adapter is not None, "a preference is learned by an adapter here"
    strategy = Lora.load(model, Path(job.adapter))
    step_module = TrainStep(model, Dpo(beta=job.cell["beta"]), settings).train()
    optimizer = MasterAdamW(strategy.parameters(model), settings)
    meter.before_training()
    for step in steps:
        known = reference
        if known is None:
            with strategy.disabled(model):
                known = _reference(model, items, step, settings, shares)
            step_module.train()
        data, total = items.with_column(REFERENCE, known), 0.0
        for chosen in _packed(data, step, settings, shares):
            loss = step_module(collate(data, chosen, shares=shares))
            (loss.total / len(step)).backward()
            optimizer.collect()
            total += float(loss.total.detach())
        meter.step_done(total / len(step), optimizer.step(job.learning_rate))
    moved = distance_moved(job, optimizer.masters.items())
    return {**meter.result(job, rows), "moved": moved, "reference_s": reference_s}


def _packed(
    items: Items, step: list[int], settings: TrainSettings, shares: bool
) -> list[list[int]]:
    if shares:
        return pack(items, step, settings.micro_tokens)
    # As many tokens at once as with shared prompts, each counted in full.
    packed: list[list[int]] = []
    filled = settings.micro_tokens
    for item in sorted(step, key=lambda item: -int(items.lengths[item])):
        if filled + int(items.lengths[item]) > settings.micro_tokens:
            packed.append([])
            filled = 0
        packed[-1].append(item)
        filled += int(items.lengths[item])
    return packed


@torch.no_grad()
def _reference(
    model: Any, items: Items, chosen: list[int], settings: TrainSettings, shares: bool
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the base's log-probability of each row, of the chosen pairs alone."""
    found = np.zeros(len(items.rows), np.float32)
    model.eval()
    for packed in _packed(items, chosen, settings, shares):
        sums = row_log_probs(model, collate(items, packed, shares=shares)).sums
        found[items.rows_of(packed)] = sums.numpy()
    return found


if __name__ == "__main__":
    run_worker(measure)
