"""The settings of one training run, all derived before it starts."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Schedule = Literal["cosine", "linear", "constant"]


class TrainSettings(BaseModel):
    """What the loop needs to know. Intervals count optimizer steps; 0 switches them off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    batch_tokens: int = Field(ge=1)  # tokens per optimizer step
    micro_tokens: int = Field(default=4096, ge=1)  # tokens computed at once; bounds the memory
    recompute: bool = False  # keep only what enters each layer, and compute the rest again
    compile: bool = False  # fuse elementwise steps, where there is a compiler
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1)  # share of all steps
    final_learning_rate: float = Field(default=0.0, ge=0, le=1)  # share of the highest
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = Field(default=1.0, gt=0)  # largest norm of the gradient
    validate_every: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=100, ge=0)
    patience: int = Field(default=0, ge=0)  # validations without a new best before it stops
    seed: int = 0

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the rate of step `step` (from 0): linear warm-up, then the schedule.

        Cosine as in Loshchilov & Hutter 2016 (arXiv 1608.03983), without restarts.
        """
        warmup_steps = math.ceil(self.warmup * steps)
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(1, steps - warmup_steps)
        left = _left(self.schedule, done)
        return self.learning_rate * (
            self.final_learning_rate + (1 - self.final_learning_rate) * left
        )


def _left(schedule: Schedule, done: float) -> float:
    """Return the share of the highest rate that is left, for the share of steps that is done."""
    match schedule:
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return 1 - done
        case "constant":
            return 1.0
