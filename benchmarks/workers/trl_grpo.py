"""Measure steps of TRL's `GRPOTrainer`."""

from __future__ import annotations

from typing import Any

import transformers
from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.workers import hugging_face
from benchmarks.workers.common import Job, Meter, Rows, run_worker

_NOT_ITS_OWN = ("train_sampling_strategy", "dataloader_num_workers", "dataloader_pin_memory")


def _tokenizer(size: int) -> Any:
    """Return a tokenizer whose words are the numbers of the tokens."""
    words = {f"w{number}": number for number in range(size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="w1",
        eos_token="w2",
        unk_token="w3",
        pad_token="w0",
        padding_side="left",
    )


def _earned(completion_ids: list[list[int]], **more: Any) -> list[float]:
    return [sum(token % 2 == 0 for token in ids) / len(ids) for ids in completion_ids]


def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Train for the job's steps, each on as many prompts."""
    cell = job.cell
    arguments = hugging_face.arguments(job)
    for name in _NOT_ITS_OWN:
        arguments.pop(name)
    prompts_per_step = len(job.steps[0])
    answers = prompts_per_step * cell["n_answers"]
    at_once = cell["answers_at_once"] or answers
    config = GRPOConfig(
        **{
            **arguments,
            "per_device_train_batch_size": at_once,
            "gradient_accumulation_steps": answers // at_once,
        },
        num_generations=cell["n_answers"],
        max_completion_length=cell["max_tokens"],
        generation_kwargs={"min_new_tokens": cell["max_tokens"]},
        beta=cell["kl"],
        shuffle_dataset=False,
    )
    data = Dataset.from_list(
        [
            {"prompt": " ".join(f"w{token}" for token in rows.row(index)[0])}
            for step in job.steps
            for index in step
        ]
    )
    meter = Meter()
    meter.before_model()
    model = hugging_face.load(job)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=_earned,
        args=config,
        train_dataset=data,
        processing_class=_tokenizer(model.config.vocab_size),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(hugging_face.MeterCallback(meter))
    trainer.train()
    lengths = [int(value) for value in trainer._metrics["train"]["completions/mean_length"]]
    return {**meter.result(job, rows), "answer_tokens": lengths}


if __name__ == "__main__":
    run_worker(measure)
