"""Measure one cell of TRL's `SFTTrainer`."""

from __future__ import annotations

from typing import Any

import transformers
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.workers import device, hugging_face
from benchmarks.workers.common import Job, Rows, run_worker


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps, rows tokenized beforehand as for everyone."""
    config = SFTConfig(
        **hugging_face.arguments(job),
        max_length=None,  # the rows are cut already
        padding_free=job.cell["is_packed"],
        use_liger_kernel=job.cell.get("kernels") == "liger",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = hugging_face.dataset(job, rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    meter = device.make_meter(job)
    meter.before_model()
    model = hugging_face.load(job)
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    return hugging_face.train(trainer, job, rows, meter)


if __name__ == "__main__":
    run_worker(measure)
