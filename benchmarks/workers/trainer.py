"""Measure one cell of transformers' own `Trainer`, with peft for LoRA."""

from __future__ import annotations

from typing import Any

import transformers

from benchmarks.workers import hugging_face
from benchmarks.workers.common import IGNORED, Job, Meter, Rows, run_worker


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps, padded to the longest row, or end to end where packed."""
    arguments = transformers.TrainingArguments(**hugging_face.arguments(job))
    data = hugging_face.dataset(job, rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    collator = (
        transformers.DataCollatorWithFlattening()
        if job.cell["is_packed"]
        else transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    )
    meter = Meter()
    meter.before_model()
    trainer = transformers.Trainer(
        model=hugging_face.load(job), args=arguments, train_dataset=data, data_collator=collator
    )
    return hugging_face.train(trainer, job, rows, meter)


if __name__ == "__main__":
    run_worker(measure)
