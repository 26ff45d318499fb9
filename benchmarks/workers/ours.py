"""Measure one cell of tunefork."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.workers import device
from benchmarks.workers.common import ALPHA, RANK, Job, RefusedError, Rows, run_worker
from benchmarks.workers.moved import distance_moved
from tunefork.core.memory import keep_few_kernels, keep_freed_memory
from tunefork.data.tokens import TokenRows
from tunefork.models import Base, Batch, adapt_model, collate, find_base, load_model, pack
from tunefork.objectives import Sft
from tunefork.strategies import Full, Lora, LoraSettings, Strategy
from tunefork.training import TrainSettings, TrainStep
from tunefork.training.optimizer import MasterAdamW
from tunefork.workflow.derive import tokens_at_once

DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


def engine_settings(cell: dict[str, Any]) -> dict[str, Any]:
    """Return the engine's own options for a cell.

    Raises:
        RefusedError: The engine has no such option.
    """
    if cell["dtype"] not in DTYPES:
        raise RefusedError(f"no number format `{cell['dtype']}`")
    wanted = {"recompute": cell["is_checkpointed"], "compile": cell["is_compiled"]}
    asked = {name for name, is_wanted in wanted.items() if is_wanted}
    unknown = asked - TrainSettings.model_fields.keys()
    if unknown:
        raise RefusedError(f"the engine has no option `{min(unknown)}`")
    return dict.fromkeys(asked, True)


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps as `training.loop.train` does, which shuffles rows itself."""
    is_made_there = device.is_made_there(job)
    base = Base(job.model, Path(job.model)) if is_made_there else find_base(job.model)
    settings = TrainSettings(
        epochs=1,
        learning_rate=job.learning_rate,
        batch_tokens=1,
        micro_tokens=tokens_at_once(base, job.cell.get("device", "cpu")),
        warmup=0,
        final_learning_rate=1,  # constant
        **engine_settings(job.cell),
    )
    data = token_rows(rows)
    meter = device.make_meter(job)
    keep_freed_memory()
    keep_few_kernels()
    meter.before_model()
    if is_made_there:
        model = adapt_model(device.random_model(job), base)
        strategy = _attach_made(model)
    else:
        model = load_model(base, device="cpu", dtype=DTYPES[job.cell["dtype"]])
        strategy = _attach(model, job.adapter)
    step_module = TrainStep(model, Sft(), settings).train()
    optimizer = MasterAdamW(strategy.parameters(model), settings)

    def packed(step: list[int]) -> tuple[list[Batch], float]:
        chosen = _micro_batches(step, data, job.cell, settings)
        shares = bool(job.cell.get("shares", True))
        batches = [collate(data, part, model.device, shares=shares) for part in chosen]
        return batches, sum(float(batch.weights.sum()) for batch in batches)

    meter.before_training()
    for batches, weight in (_ahead if is_made_there else map)(packed, job.steps):
        total = 0.0
        for batch in batches:
            loss = step_module(batch)
            (loss.total / weight).backward()
            optimizer.collect()
            total += float(loss.total.detach())
        norm = optimizer.step(job.learning_rate)
        meter.step_done(total / weight, norm)
    return {**meter.result(job, rows), "moved": distance_moved(job, optimizer.masters.items())}


def _ahead(
    packed: Callable[[list[int]], tuple[list[Batch], float]], steps: list[list[int]]
) -> Iterator[tuple[list[Batch], float]]:
    """Pack the next step in a thread, as `training.loop.train` does."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(packed, steps[0])
        for following in steps[1:]:
            found = coming.result()
            coming = thread.submit(packed, following)
            yield found
        yield coming.result()


def _attach_made(model: Any) -> Strategy:
    strategy = Lora(LoraSettings(rank=RANK, alpha=ALPHA))
    strategy.attach(model, seed=0)
    device.fill_adapter(strategy.parameters(model).items())
    return strategy


def _attach(model: Any, adapter: str | None) -> Strategy:
    if adapter is not None:
        return Lora.load(model, Path(adapter))
    strategy = Full()
    strategy.attach(model, seed=0)
    return strategy


def _micro_batches(
    step: list[int], data: TokenRows, cell: dict[str, Any], settings: TrainSettings
) -> list[list[int]]:
    at_once = cell["rows_at_once"]
    if at_once:
        by_length = sorted(step, key=lambda row: -int(data.lengths[row]))
        return [by_length[i : i + at_once] for i in range(0, len(by_length), at_once)]
    return pack(data, step, settings.micro_tokens)


def token_rows(rows: Rows) -> TokenRows:
    within = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], rows.lengths)
    weights = (within >= np.repeat(rows.prompts, rows.lengths)).astype(np.float32)
    return TokenRows(rows.ids, weights, rows.offsets)


if __name__ == "__main__":
    run_worker(measure)
