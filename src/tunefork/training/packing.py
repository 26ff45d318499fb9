"""Which rows make up which step: decided by seed and step number alone, so it can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunefork.data.tokens import TokenRows
from tunefork.models import pack
from tunefork.training.settings import TrainSettings


@dataclass(frozen=True)
class TrainingData:
    """What to train on, what to choose the best weights by, and what to keep in mind.

    Of `replay` each epoch draws `n_replayed` rows anew, so that over a run many general rows
    stand against forgetting while no epoch grows long.
    """

    rows: TokenRows
    validation: TokenRows | None = None
    replay: TokenRows | None = None
    n_replayed: int = 0
    # What to call rows in messages, by their number, such as "train.jsonl:12".
    name_row: Callable[[int], str] | None = None
    name_held_out: Callable[[int], str] | None = None

    def together(self) -> TokenRows:
        """Return the rows to train on, followed by all that may be replayed."""
        if self.replay is None:
            return self.rows
        return TokenRows.concatenate([self.rows, self.replay])

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of one epoch, on average."""
        own = self.rows.n_tokens
        if self.replay is None:
            return own
        return own + round(self.n_replayed * self.replay.n_tokens / len(self.replay))


class Plan:
    """The order of all rows over all epochs, cut into optimizer steps and packed rows.

    Each epoch is a new shuffle of all rows and of newly drawn replayed ones. A step takes rows in
    that order until it holds its share of the epoch's tokens, and is then cut into packed rows
    (see `models.pack`). Row numbers are those of `TrainingData.together`.
    """

    def __init__(self, data: TrainingData, settings: TrainSettings) -> None:
        self.rows = data.together()
        self.lengths = self.rows.lengths  # (rows,) tokens
        self.settings = settings
        self._n_own = len(data.rows)
        self._n_replayed = data.n_replayed
        wanted = round(data.tokens_per_epoch / settings.batch_tokens)
        self.steps_per_epoch = min(max(1, wanted), self._n_own)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)  # (rows,): the epoch's shuffle
        self._ends = np.empty(0, dtype=np.int64)  # (steps,): where each step ends in it

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.steps_per_epoch * self.settings.epochs

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the packed rows of a step, each a list of row numbers."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        first = 0 if within == 0 else int(self._ends[within - 1])
        rows = self._order[first : int(self._ends[within])]
        return pack(self.rows, rows.tolist(), self.settings.micro_tokens)

    def _shuffle(self, epoch: int) -> None:
        generator = np.random.default_rng([self.settings.seed, epoch])
        self._order = generator.permutation(
            np.concatenate([np.arange(self._n_own), *self._draw(generator)])
        )
        n_rows, n_steps = len(self._order), self.steps_per_epoch
        filled = np.cumsum(self.lengths[self._order])
        marks = filled[-1] * np.arange(1, n_steps + 1) / n_steps
        ends = np.searchsorted(filled, marks)
        # Each step gets a row of its own, also where one row is longer than a step should be.
        steps = np.arange(n_steps)
        ends = np.maximum.accumulate(np.maximum(ends, 1) - steps) + steps
        self._ends = np.minimum(ends, n_rows - n_steps + 1 + steps)
        self._ends[-1] = n_rows
        self._epoch = epoch

    def _draw(self, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """Draw replayed rows, each at most once more often than any other."""
        n_pool, drawn = len(self.lengths) - self._n_own, []
        for left in range(self._n_replayed, 0, -max(n_pool, 1)):
            drawn.append(self._n_own + generator.permutation(n_pool)[:left])
        return drawn
