"""Measure one cell of Unsloth, which trains through TRL's `SFTTrainer`.

It reads weights from a folder only, so the random ones are saved there before the first cell.
"""

from __future__ import annotations

# Unsloth replaces parts of the others, and asks to be imported before them.
from unsloth import FastLanguageModel  # type: ignore[import-not-found,unused-ignore]  # isort: skip

from pathlib import Path
from typing import Any

import torch
import transformers
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.workers import device, hugging_face
from benchmarks.workers.common import ALPHA, RANK, Job, Rows, run_worker

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train on the job's steps."""
    _save_weights(job)
    config = SFTConfig(
        **hugging_face.arguments(job),
        max_length=None,
        padding_free=job.cell["is_packed"],
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = hugging_face.dataset(job, rows)
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.model)
    meter = device.make_meter(job)
    meter.before_model()
    model, _ = FastLanguageModel.from_pretrained(
        model_name=job.model,
        max_seq_length=int(rows.lengths.max()),
        dtype=torch.bfloat16,
        load_in_4bit=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0,
        bias="none",
        target_modules=_TARGETS,
        use_gradient_checkpointing="unsloth" if job.cell["is_checkpointed"] else False,
        random_state=0,
    )
    device.fill_adapter(model.named_parameters())
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    return hugging_face.train(trainer, job, rows, meter)


def _save_weights(job: Job) -> None:
    if not list(Path(job.model).glob("*.safetensors")):
        device.random_model(job).save_pretrained(job.model)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    run_worker(measure)
