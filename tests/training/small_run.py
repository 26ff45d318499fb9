"""One small training run, for tests of what may go wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.small import packed_model, random_rows
from tunefork.core.events import Event, Noted, Sink, Warned, no_sink
from tunefork.models import Batch, hash_parameters
from tunefork.objectives import Loss, Objective, Sft
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import (
    CheckpointStore,
    TrainingData,
    TrainResult,
    TrainSettings,
    TrainStep,
    train,
)

SETTINGS = TrainSettings(
    epochs=3,
    learning_rate=5e-3,
    batch_tokens=60,
    micro_tokens=30,
    validate_every=4,
    checkpoint_every=3,
    seed=7,
)
ROWS, VALIDATION = random_rows(30), random_rows(6, seed=9)
DATA = TrainingData(ROWS, VALIDATION)


class Spoiled(Sft):
    """Sft, with something done to each batch's loss."""

    name = "spoiled"

    def __init__(self, spoil: Any) -> None:
        self.spoil = spoil  # (batch, loss) -> factor or tensor for the summed loss

    def loss(self, model: Any, batch: Batch) -> Loss:
        found = super().loss(model, batch)
        return Loss(self.spoil(batch, found.total), found.weight)


def run(
    folder: Path,
    settings: TrainSettings = SETTINGS,
    *,
    data: TrainingData = DATA,
    objective: Objective | None = None,
    sink: Sink = no_sink,
) -> tuple[str, TrainResult]:
    """Train, or go on, and return a hash of the trained weights and the result."""
    model = packed_model("llama")
    method = Lora(LoraSettings(rank=4, dropout=0.1))
    method.attach(model, settings.seed)
    parameters = method.parameters(model)
    result = train(
        TrainStep(model, objective or Sft(), settings),
        parameters,
        data,
        settings,
        CheckpointStore(folder),
        sink,
    )
    return hash_parameters(parameters.items()), result


def messages(seen: list[Event], kind: type[Warned] | type[Noted]) -> list[str]:
    """Return what events of a kind say."""
    return [
        event.message
        for event in seen
        if isinstance(event, Warned | Noted) and isinstance(event, kind)
    ]


def holds(batch: Batch, row: int) -> bool:
    """Say whether a batch holds a row of `ROWS`, or one with the same last tokens."""
    own = torch.from_numpy(ROWS.row(row)[0].astype("int64"))
    return any(
        torch.equal(batch.ids[at : at + len(own)], own)
        for at in range(len(batch.ids) - len(own) + 1)
    )
