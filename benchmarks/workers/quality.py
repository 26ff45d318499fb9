"""Train with TRL's `SFTTrainer` for some epochs, and tell the held-out loss after each.

Run by the peers' interpreter as `python -m benchmarks.workers.quality JOB.json`; see
`benchmarks.quality`. What TRL takes by default stays as it is, but for the layers: all linear ones.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found,unused-ignore]

from benchmarks.workers.common import IGNORED, clock_of, versions

_ROWS_AT_ONCE = 16  # while validating


def read_rows(path: Path) -> list[dict[str, list[int]]]:
    """Return the ids and labels of each row that `benchmarks.quality` wrote."""
    with np.load(path) as arrays:
        ids, weights, offsets = (arrays[key] for key in ("ids", "weights", "offsets"))
    labels = np.where(weights > 0, ids, IGNORED)
    ends = itertools.pairwise(offsets)
    return [
        {"input_ids": ids[start:end].tolist(), "labels": labels[start:end].tolist()}
        for start, end in ends
    ]


@torch.no_grad()
def held_out_loss(model: Any, rows: list[dict[str, list[int]]]) -> float:
    """Return the mean loss over the trained tokens of all rows, in nats."""
    total, count = 0.0, 0
    device = model.device
    was_training = model.training
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        chosen = ordered[start : start + _ROWS_AT_ONCE]
        longest = max(len(row["input_ids"]) for row in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.long)
        labels = torch.full_like(ids, IGNORED)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(chosen):
            length = len(row["input_ids"])
            ids[number, :length] = torch.tensor(row["input_ids"])
            labels[number, :length] = torch.tensor(row["labels"])
            mask[number, :length] = 1
        ids, mask, labels = ids.to(device), mask.to(device), labels.to(device)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        wanted = labels[:, 1:]
        total += float(cross_entropy(logits.transpose(1, 2), wanted, reduction="sum"))
        count += int((wanted != IGNORED).sum())
    model.train(was_training)
    return total / count


class Curve(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Notes (seconds, loss) after each epoch; validating does not count as time."""

    def __init__(self, rows: list[dict[str, list[int]]], now: Callable[[], float]) -> None:
        self._rows = rows
        self._now = now
        self._start = 0.0
        self.points: list[tuple[float, float]] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._start = self._now()

    def on_epoch_end(self, *args: Any, model: Any, **kwargs: Any) -> None:
        """Stop the clock while validating."""
        stopped = self._now()
        self.points.append((stopped - self._start, held_out_loss(model, self._rows)))
        self._start += self._now() - stopped


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the curve."""
    rows, held_out = read_rows(Path(job["rows"])), read_rows(Path(job["held_out"]))
    config = SFTConfig(
        output_dir="trainer",  # in the work folder; nothing is saved
        use_cpu=not torch.cuda.is_available(),
        bf16=job["is_bf16"],
        num_train_epochs=job["epochs"],
        learning_rate=job["learning_rate"],
        max_length=None,  # the rows are cut already
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    adapter = LoraConfig(
        r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear", lora_dropout=0.0
    )
    curve = Curve(held_out, clock_of(job["clock"]))
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(job["model"]),
        peft_config=adapter,
        callbacks=[curve],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return {"points": curve.points, "steps": trainer.state.global_step, "versions": versions()}


if __name__ == "__main__":
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout, which is ours
    answer.write(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text()))) + "\n")
    answer.flush()
