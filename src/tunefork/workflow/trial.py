"""A few real training steps in a process of their own: what memory and time they take.

`measure` starts the process; `python -m tunefork.workflow.trial JOB` is it. Nothing is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tunefork.core.allocator import quick_allocator
from tunefork.core.errors import InputError
from tunefork.core.events import Event, StepDone, Warned
from tunefork.core.files import read_json, write_json
from tunefork.core.memory import (
    keep_few_kernels,
    keep_freed_memory,
    peak_resident_bytes,
    resident_bytes,
)
from tunefork.data import TokenRows
from tunefork.models import Base
from tunefork.training import TrainingData, TrainSettings
from tunefork.workflow.strategy_specs import ChosenSpec

_STEPS = 5  # the first is not timed: memory is taken then
_LIMIT_S = 900.0


@dataclass(frozen=True)
class Trial:
    """What was measured, or why there is nothing."""

    peak_bytes: int = 0  # resident, beyond what was before the base was loaded
    tokens_per_second: float = 0.0  # of all steps but the first
    tokens: int = 0  # of all steps
    seconds: float = 0.0  # of all steps
    micro_tokens: int = 0  # computed at once: less than asked for where memory ran out
    refused: str = ""


class _Job(BaseModel):
    base: Base
    chosen: ChosenSpec = Field(discriminator="name")
    settings: TrainSettings


def measure(
    base: Base,
    chosen: ChosenSpec,
    settings: TrainSettings,
    data: TrainingData,
    *,
    steps: int = _STEPS,
) -> Trial:
    """Run a few steps of a strategy in a process of its own, the heaviest packed row first.

    Args:
        base: What is tuned.
        chosen: The strategy, with every number settled.
        settings: As of the whole training.
        data: All rows; the longest, and as many as the steps need, are used.
        steps: How many, about.
    """
    with tempfile.TemporaryDirectory(prefix="tunefork-trial-") as name:
        folder = Path(name)
        job = _Job(base=base, chosen=chosen, settings=settings)
        write_json(folder / "job.json", job.model_dump(mode="json"))
        rows = _sample(data, settings, steps)
        np.savez(folder / "rows.npz", ids=rows.ids, weights=rows.weights, offsets=rows.offsets)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "tunefork.workflow.trial", name],
                env={**os.environ, **quick_allocator()},
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return Trial(refused=f"took longer than {_LIMIT_S / 60:.0f} minutes")
    if done.returncode < 0:
        return Trial(refused="killed by the system, most likely for want of memory")
    if done.returncode:
        return Trial(refused=(done.stderr.strip() or "it failed").splitlines()[-1])
    return Trial(**json.loads(done.stdout.splitlines()[-1]))


def _sample(data: TrainingData, settings: TrainSettings, steps: int) -> TokenRows:
    """Return the longest rows, and others for the steps that are timed."""
    rows = data.together().rows
    order = np.argsort(-rows.lengths, kind="stable")
    longest = order[: 1 + int(np.searchsorted(rows.lengths[order].cumsum(), settings.micro_tokens))]
    drawn = np.random.default_rng(settings.seed).permutation(len(rows))
    count = int(np.searchsorted(rows.lengths[drawn].cumsum(), steps * settings.batch_tokens))
    return rows.select(np.concatenate([longest, drawn[: 1 + count]]))


def _run(folder: Path) -> dict[str, Any]:
    from tunefork.models import load_model
    from tunefork.objectives import Sft
    from tunefork.strategies import first_tokens
    from tunefork.training import CheckpointStore, TrainStep, rehearse, train
    from tunefork.workflow.settle import build, quantization_of

    job = _Job.model_validate(read_json(folder / "job.json"))
    with np.load(folder / "rows.npz") as arrays:
        rows = TokenRows(**arrays)
    data = TrainingData(rows)
    settings = job.settings.model_copy(
        update={"epochs": 1, "validate_every": 0, "patience": 0, "checkpoint_every": 0}
    )
    steps: list[StepDone] = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)
        elif isinstance(event, Warned):
            print(event.message, file=sys.stderr)

    keep_freed_memory()
    keep_few_kernels()
    before_bytes = resident_bytes()
    model = load_model(job.base, quantization=quantization_of(job.chosen))
    strategy = build(job.chosen, first_tokens(rows, settings.micro_tokens))
    strategy.attach(model, settings.seed)
    step_module = TrainStep(model, Sft(), settings)
    settings = rehearse(step_module, data, settings, sink)
    store = CheckpointStore(folder)
    train(step_module, strategy.parameters(model), data, settings, store, sink)
    return {
        "peak_bytes": peak_resident_bytes() - before_bytes,
        "tokens_per_second": _speed(steps),
        "tokens": steps[-1].tokens,
        "seconds": steps[-1].tokens / steps[-1].tokens_per_second,
        "micro_tokens": settings.micro_tokens,
    }


def _speed(steps: list[StepDone]) -> float:
    """Return the tokens per second of all steps but the first."""
    seconds = [step.tokens / step.tokens_per_second for step in steps]
    if len(steps) == 1:
        return steps[0].tokens_per_second
    return (steps[-1].tokens - steps[0].tokens) / (seconds[-1] - seconds[0])


def main(folder: Path) -> None:
    """Print what was measured, or why nothing was, as one JSON object."""
    try:
        found = _run(folder)
    except InputError as error:
        found = {"refused": error.message}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
