"""Which rows make up which step: decided by seed and step number alone, so it can be resumed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunefork.models import pack_by_tokens
from tunefork.training.settings import TrainSettings


class Plan:
    """The order of all rows over all epochs, cut into optimizer steps and packed rows.

    Each epoch is a new shuffle of all rows. A step takes rows in that order until it holds about
    `batch_tokens`, and is then cut into packed rows of similar length.
    """

    def __init__(self, lengths: NDArray[np.int64], settings: TrainSettings) -> None:
        self.lengths = lengths  # (rows,) tokens
        self.settings = settings
        wanted = round(int(lengths.sum()) / settings.batch_tokens)
        self.steps_per_epoch = min(max(1, wanted), len(lengths))
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)  # (rows,): the epoch's shuffle
        self._ends = np.empty(0, dtype=np.int64)  # (steps,): where each step ends in it

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.steps_per_epoch * self.settings.epochs

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the packed rows of a step, each a list of row numbers, longest rows first."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        first = 0 if within == 0 else int(self._ends[within - 1])
        rows = self._order[first : int(self._ends[within])]
        by_length = rows[np.argsort(-self.lengths[rows], kind="stable")]
        return pack_by_tokens(self.lengths, by_length.tolist(), self.settings.micro_tokens)

    def _shuffle(self, epoch: int) -> None:
        n_rows, n_steps = len(self.lengths), self.steps_per_epoch
        generator = np.random.default_rng([self.settings.seed, epoch])
        self._order = generator.permutation(n_rows)
        filled = np.cumsum(self.lengths[self._order])
        marks = filled[-1] * np.arange(1, n_steps + 1) / n_steps
        ends = np.searchsorted(filled, marks)
        # Each step gets a row of its own, also where one row is longer than a step should be.
        steps = np.arange(n_steps)
        ends = np.maximum.accumulate(np.maximum(ends, 1) - steps) + steps
        self._ends = np.minimum(ends, n_rows - n_steps + 1 + steps)
        self._ends[-1] = n_rows
        self._epoch = epoch
