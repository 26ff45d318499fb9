"""Checkpoints: whole or not there, checked by hash when read, and no pickle in them.

A damaged one is passed over for the one before, with a warning.

checkpoints/step-000120/state.json           step, best so far; hashes of it and of its tensors
checkpoints/step-000120/tensors.safetensors  weights being trained and their moments
best/                                        the same two files, for the best weights
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunefork.core.errors import RunError
from tunefork.core.files import new_folder, write_json, writing
from tunefork.core.hashing import hash_file, hash_json
from tunefork.models import saving_tensors

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_DAMAGE = (  # what reading may raise
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    SafetensorError,
)
_KEPT = 2  # the newest, and the one before in case the newest is damaged


@dataclass(frozen=True)
class TrainState:
    """Where a run stands, besides its tensors."""

    step: int = 0  # optimizer steps done
    tokens: int = 0  # tokens seen
    seconds: float = 0.0  # spent training, over all sittings
    best_step: int = 0
    best_loss: float | None = None
    best_drop: float | None = None  # what these weights have forgotten, see `Watch`
    lowest_loss: float | None = None  # held out, whatever was forgotten
    base_loss: float | None = None  # held-out loss before the first step
    best_metrics: dict[str, float] = field(default_factory=dict)  # with the losses
    base_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations since the lowest loss
    last_train_loss: float | None = None
    micro_tokens: int | None = None  # computed at once; less than set where memory ran out
    skipped: int = 0  # steps whose loss or gradient was no number
    skipped_in_a_row: int = 0
    # What `guards` knows an exploding loss by.
    recent_losses: tuple[float, ...] = ()
    lowest_mean: float | None = None
    high_in_a_row: int = 0


class CheckpointStore:
    """The checkpoints of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.run_folder = folder
        self.folder = folder / "checkpoints"
        self.best_folder = folder / "best"

    def save(self, state: TrainState, tensors: dict[str, torch.Tensor]) -> Path:
        """Write a checkpoint and drop all but the newest two."""
        path = self.folder / f"step-{state.step:06d}"
        _write(path, state, tensors)
        for old in self._newest_first()[_KEPT:]:
            with writing(old):
                shutil.rmtree(old)
        return path

    def is_empty(self) -> bool:
        """Say whether there is no checkpoint, damaged or not, to go on from."""
        return not self._newest_first()

    def save_best(self, state: TrainState, tensors: dict[str, torch.Tensor]) -> None:
        """Keep these weights as the run's best so far."""
        weights = {name: t for name, t in tensors.items() if name.startswith("master.")}
        _write(self.best_folder, state, weights)

    def load_newest(self) -> tuple[TrainState, dict[str, torch.Tensor], list[Path]] | None:
        """Return the newest undamaged checkpoint, and the damaged ones passed over.

        Raises:
            RunError: There are checkpoints, and all are damaged.
        """
        damaged: list[Path] = []
        for path in self._newest_first():
            try:
                return *_read(path), damaged
            except _DAMAGE:
                damaged.append(path)
        if damaged:
            raise RunError(
                "every checkpoint of this run is damaged",
                where=self.folder,
                hint="start again in a new folder, or delete this one to start from nothing",
            )
        return None

    def load_best(self) -> dict[str, torch.Tensor]:
        """Return the best weights.

        Raises:
            RunError: They are gone or damaged.
        """
        try:
            return _read(self.best_folder)[1]
        except _DAMAGE as error:
            raise RunError(
                f"the best weights of this run are gone or damaged: {error}",
                where=self.best_folder,
                hint="start a new run in a new folder",
            ) from error

    def remove(self) -> None:
        """Drop everything: the run is finished and its result lies elsewhere."""
        best = self.best_folder
        # A kill may have left what `new_folder` was working on beside the best weights.
        leftovers = [best.with_name(best.name + ending) for ending in (".partial", ".old")]
        for folder in (self.folder, best, *leftovers):
            shutil.rmtree(folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-" + "[0-9]" * 6), reverse=True)


def _write(path: Path, state: TrainState, tensors: dict[str, torch.Tensor]) -> None:
    with new_folder(path) as folder:
        with saving_tensors():
            save_file({k: t.cpu().contiguous() for k, t in tensors.items()}, folder / _TENSORS)
        record = {"state": asdict(state), "tensors": hash_file(folder / _TENSORS)}
        write_json(folder / _STATE, {**record, "hash": hash_json(record)})


def _read(path: Path) -> tuple[TrainState, dict[str, torch.Tensor]]:
    record = json.loads((path / _STATE).read_text(encoding="utf-8"))
    given = record.pop("hash")
    if hash_json(record) != given or hash_file(path / _TENSORS) != record["tensors"]:
        raise ValueError(f"damaged checkpoint: {path}")
    state = record["state"]
    state["recent_losses"] = tuple(state["recent_losses"])  # JSON knows lists only
    return TrainState(**state), load_file(path / _TENSORS)
