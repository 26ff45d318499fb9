"""Measure steps of tunefork's `grpo`: drawing, judging, and learning, by the training loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.workers.common import Job, Meter, Rows, run_worker
from tunefork.core.events import Event, StepDone
from tunefork.core.memory import keep_few_kernels, keep_freed_memory
from tunefork.data import Renderer, TokenRows
from tunefork.models import find_base, load_model
from tunefork.objectives import Asked, Groups, Grpo, Mark, Rollouts, Speaker, Watch
from tunefork.strategies import Lora
from tunefork.training import CheckpointStore, TrainingData, TrainSettings, TrainStep, train
from tunefork.workflow.derive import tokens_at_once

_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


class _Words(Renderer):
    """Answers have no text here, and end where they are as long as they may be."""

    def __init__(self) -> None:
        self.end_ids = frozenset()

    def parse(self, ids: Sequence[int]) -> tuple[str, Any]:
        """Return the share of even tokens, which is what earns."""
        return str(np.mean([token % 2 == 0 for token in ids])), "length"


def _judge(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
    return [Mark(float(answer)) for answer in answers]


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train for the job's steps, each on as many prompts."""
    cell = job.cell
    base = find_base(job.model)
    meter = Meter()
    keep_freed_memory()
    keep_few_kernels()
    meter.before_model()
    model = load_model(base, device="cpu", dtype=_DTYPES[cell["dtype"]])
    assert job.adapter is not None, "LoRA is what is compared"
    strategy = Lora.load(model, Path(job.adapter))

    @contextlib.contextmanager
    def switched_off() -> Iterator[Any]:
        with strategy.disabled(model):
            yield model

    def told(event: Event) -> None:
        if isinstance(event, StepDone):
            meter.step_done(event.loss, event.gradient_norm)

    prompts = TokenRows(rows.ids, np.zeros(len(rows.ids), np.float32), rows.offsets)
    speaker = Speaker(model, _Words(), cell["n_answers"], cell["max_tokens"], seed=0)
    rollouts = Rollouts(
        speaker,
        Asked(prompts, _judge, str, str),
        None,
        Groups(model, switched_off if cell["kl"] else None, divides=True, keeps_old=False),
        Watch(None, told),
        told,
        passes=1,
        redraws=False,
    )
    settings = TrainSettings(
        epochs=1,
        learning_rate=job.learning_rate,
        batch_tokens=round(prompts.n_tokens / len(job.steps)),
        micro_tokens=tokens_at_once(base, "cpu"),
        warmup=0,
        schedule="constant",
        checkpoint_every=0,
    )
    step = TrainStep(model, Grpo(kl=cell["kl"]), settings)
    data = TrainingData(prompts, rollouts=rollouts)
    meter.before_training()
    train(step, strategy.parameters(model), data, settings, CheckpointStore(Path("none")), told)
    return meter.result(job, rows)


if __name__ == "__main__":
    run_worker(measure)
