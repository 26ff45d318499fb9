"""Measure one cell of TRL's `DPOTrainer`."""

from __future__ import annotations

from typing import Any

import transformers
from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.workers import hugging_face
from benchmarks.workers.common import Job, Meter, Rows, run_worker


class _Tokenized(DPOTrainer):  # type: ignore[misc,unused-ignore]
    """Takes pairs as token ids, as everyone does here; TRL's own begins with texts."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps; references are computed before the first, or in each step."""
    pairs = len(job.steps[0]) // 2
    at_once = job.cell["rows_at_once"] or pairs
    arguments = hugging_face.arguments(job) | {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": pairs // at_once,
    }
    config = DPOConfig(
        **arguments,
        max_length=None,  # the rows are cut already
        beta=job.cell["beta"],
        padding_free=job.cell["is_packed"],
        precompute_ref_log_probs=job.cell["reference"] == "kept",
    )
    data = _dataset(job, rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    meter = Meter()
    meter.before_model()
    trainer = _Tokenized(
        model=hugging_face.load(job), args=config, train_dataset=data, processing_class=tokenizer
    )
    return hugging_face.train(trainer, job, rows, meter)


def _dataset(job: Job, rows: Rows) -> Dataset:
    """Return the pairs of all steps, one after another."""
    found: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for step in job.steps:
        for chosen, rejected in zip(step[::2], step[1::2], strict=True):
            prompt = int(rows.prompts[chosen])
            found["prompt_ids"].append(rows.row(chosen)[0][:prompt])
            found["chosen_ids"].append(rows.row(chosen)[0][prompt:])
            found["rejected_ids"].append(rows.row(rejected)[0][prompt:])
    return Dataset.from_dict(found)


if __name__ == "__main__":
    run_worker(measure)
