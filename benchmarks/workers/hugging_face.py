"""What both peers share: they train through the `Trainer` of transformers."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import transformers
from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
from peft import LoraConfig, PeftModel, get_peft_model

from benchmarks.workers import device
from benchmarks.workers.common import ALPHA, RANK, Job, Meter, RefusedError, Rows
from benchmarks.workers.moved import distance_moved

# What a cell's number format means to the peers: (weights, automatic mixed precision). An
# adapter stays in float32 but for `bf16_pure`.
_DTYPES = {
    "float32": (torch.float32, False),
    "bf16": (torch.bfloat16, True),
    "bf16_pure": (torch.bfloat16, False),
    "amp": (torch.float32, True),
}


class MeterCallback(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Tells the meter of each step; it is logged right after the weights have moved."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the beginning."""
        self._meter.before_training()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any
    ) -> None:
        """Note a step; the last call sums the run up and is none."""
        if "loss" in logs:
            self._meter.step_done(logs["loss"], logs["grad_norm"])


def load(job: Job) -> Any:
    """Load the model, with the adapter on it where there is one."""
    if device.is_made_there(job):
        return _made_there(job)
    dtype = _DTYPES[job.cell["dtype"]][0]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.model, dtype=dtype, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    if job.adapter is None:
        return model
    model = PeftModel.from_pretrained(
        model,
        job.adapter,
        is_trainable=True,
        autocast_adapter_dtype=job.cell["dtype"] != "bf16_pure",
    )
    if job.cell["is_checkpointed"]:
        model.enable_input_require_grads()
    return model


def _made_there(job: Job) -> Any:
    model = device.random_model(job, attention(job))
    model.config.use_cache = False
    adapter = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, adapter, autocast_adapter_dtype=job.cell["dtype"] != "bf16_pure")
    device.fill_adapter(model.named_parameters())
    if job.cell["is_checkpointed"]:
        model.enable_input_require_grads()
    return model


def attention(job: Job) -> str:
    """Return the attention to run: FlashAttention for packed rows on a GPU that has it."""
    is_there = importlib.util.find_spec("flash_attn") is not None
    wants = job.cell.get("device") == "cuda" and job.cell["is_packed"]
    return "flash_attention_2" if is_there and wants else "sdpa"


def dataset(job: Job, rows: Rows) -> Dataset:
    """Return the rows of all steps, one after another."""
    found = [rows.row(index) for step in job.steps for index in step]
    return Dataset.from_dict(
        {"input_ids": [ids for ids, _ in found], "labels": [labels for _, labels in found]}
    )


def arguments(job: Job) -> dict[str, Any]:
    """Return the training arguments that both peers take."""
    cell = job.cell
    rows_per_step = len(job.steps[0])
    is_on_gpu = cell.get("device") == "cuda"
    at_once = cell["rows_at_once"] or rows_per_step
    if rows_per_step % at_once:
        raise RefusedError(f"{rows_per_step} rows per step are not a multiple of {at_once}")
    return {
        "output_dir": "trainer",  # in the run's work folder; nothing is saved
        "use_cpu": not is_on_gpu,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": rows_per_step // at_once,
        "max_steps": len(job.steps),
        "train_sampling_strategy": "sequential",
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": _DTYPES[cell["dtype"]][1],
        "gradient_checkpointing": cell["is_checkpointed"],
        "torch_compile": cell["is_compiled"],
        "dataloader_num_workers": 1 if is_on_gpu else 0,  # we pack ahead there too
        "dataloader_pin_memory": is_on_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def train(trainer: Any, job: Job, rows: Rows, meter: Meter) -> dict[str, Any]:
    """Train, with nothing but the meter listening, and return what the worker prints."""
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(MeterCallback(meter))
    trainer.train()
    result = meter.result(job, rows)
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    config = trainer.model.config
    result["attention"] = config._attn_implementation
    return {**result, "moved": distance_moved(job, trained)}
