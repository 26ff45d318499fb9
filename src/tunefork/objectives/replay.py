"""Replay: general conversations beside what an objective learns, against forgetting.

Objectives that learn token by token mix them with their own rows. Beside any other they are packed
apart, and each counts as one item with its mean cross-entropy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tunefork.data import Items, Kind
from tunefork.models.batch import Batch
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives.protocol import Loss, Objective

REPLAYED = "replayed"  # the column that is 1 in replayed rows, where they are packed apart
_BY_TOKEN: tuple[Kind, ...] = ("chat", "text")


def is_replayed_apart(objective: Objective) -> bool:
    """Say whether general rows count as items beside an objective's own, not by their tokens."""
    return objective.kind not in _BY_TOKEN


def replayed(items: Items) -> Items:
    """Return general rows, marked so that they are packed apart."""
    return items.with_column(REPLAYED, np.ones(len(items.rows), np.float32))


class WithReplay:
    """An objective for its own rows, and cross-entropy for replayed ones."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def name(self) -> str:
        """What a spec calls the objective."""
        return self._objective.name

    @property
    def kind(self) -> Kind:
        """What kind of row it learns from, besides the replayed ones."""
        return self._objective.kind

    @property
    def needs_reference(self) -> bool:
        """Whether its own items need it."""
        return self._objective.needs_reference

    def arrange(self, items: Items) -> Items:
        """Return its own items as it wants them."""
        return self._objective.arrange(items)

    def weight(self, batch: Batch) -> float:
        """Return what the batch weighs: each replayed row one."""
        return float(batch.n_rows) if _is_replayed(batch) else self._objective.weight(batch)

    def loss(self, model: Any, batch: Batch) -> Loss:
        """Return the objective's loss, or the replayed rows' summed mean cross-entropy."""
        if not _is_replayed(batch):
            return self._objective.loss(model, batch)
        return Loss(
            total=-row_log_probs(model, batch).means.sum(),
            weight=torch.tensor(float(batch.n_rows)),
        )


def _is_replayed(batch: Batch) -> bool:
    return REPLAYED in batch.columns and bool(batch.columns[REPLAYED].all())
