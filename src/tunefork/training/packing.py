"""Which rows make up which step: decided by seed and step number alone, so it can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunefork.data.items import Items
from tunefork.data.tokens import TokenRows
from tunefork.models import pack
from tunefork.objectives import REPLAYED, Rollouts
from tunefork.training.settings import TrainSettings


@dataclass(frozen=True)
class Watch:
    """What the model could do before, looked at whenever held-out rows are.

    Attributes:
        measure: Return by how much it is worse than the base by now: a drop from 0 to 1.
        budget: The largest drop with which weights may become the result, if any others may.
    """

    measure: Callable[[], float]
    budget: float


@dataclass(frozen=True)
class TrainingData:
    """What to train on, what to choose the best weights by, and what to keep in mind.

    Plain rows are items of one row each. Of `replay` each epoch draws `n_replayed` rows anew, so
    that over a run many general rows stand against forgetting while no epoch grows long. With
    `rollouts` the rows are prompts, and what is learned from are answers that are drawn to them.
    """

    rows: TokenRows | Items
    validation: TokenRows | Items | None = None
    replay: TokenRows | Items | None = None
    n_replayed: int = 0
    # (items, weight) of each source that the rows come from, one after the other, where they are
    # mixed: of an epoch's tokens each has its weight's share, drawn anew in each.
    sources: tuple[tuple[int, float], ...] = ()
    # What to call items in messages, by their number, such as "train.jsonl:12".
    name_row: Callable[[int], str] | None = None
    name_held_out: Callable[[int], str] | None = None
    watch: Watch | None = None  # only looked at where rows are held out
    rollouts: Rollouts | None = None

    def together(self) -> Items:
        """Return the items to train on, followed by all that may be replayed."""
        own = Items.of(self.rows)
        return own if self.replay is None else Items.concatenate([own, Items.of(self.replay)])

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of one epoch, on average."""
        own = self.rows.n_tokens
        if self.replay is None:
            return own
        return own + round(self.n_replayed * self.replay.n_tokens / len(self.replay))


class Plan:
    """The order of all items over all epochs, cut into optimizer steps and packed rows.

    Each epoch is a new shuffle of all items and of newly drawn replayed ones. A step takes items
    in that order until it holds its share of the epoch's tokens, and is then cut into packed rows
    (see `models.pack`). Item numbers are those of `TrainingData.together`. Where answers are drawn
    to the items, as many steps in a row are made of them as there are passes over the answers.
    """

    def __init__(self, data: TrainingData, settings: TrainSettings) -> None:
        self.items = data.together()
        self.lengths = self.items.lengths  # (items,) tokens
        self.settings = settings
        self._n_own = len(data.rows)
        self._n_replayed = data.n_replayed
        self._pools = _pools(data, self.lengths)
        self._is_apart = REPLAYED in self.items.columns
        wanted = round(data.tokens_per_epoch / settings.batch_tokens)
        self._passes = data.rollouts.passes if data.rollouts is not None else 1
        n_taken = sum(pool.n for pool in self._pools) or self._n_own
        self._rounds_per_epoch = min(max(1, wanted), n_taken)
        self.steps_per_epoch = self._rounds_per_epoch * self._passes
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)  # (items,): the epoch's shuffle
        self._ends = np.empty(0, dtype=np.int64)  # (steps,): where each step ends in it

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.steps_per_epoch * self.settings.epochs

    def micro_batches(self, step: int) -> list[list[int]]:
        """Return the packed rows of a step, each a list of item numbers."""
        limit = self.settings.micro_tokens
        return [rows for part in self.chosen(step) for rows in pack(self.items, part, limit)]

    def chosen(self, step: int) -> tuple[list[int], list[int]]:
        """Return the items of a step: own ones, and replayed ones that are packed apart."""
        epoch, within = divmod(step // self._passes, self._rounds_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        first = 0 if within == 0 else int(self._ends[within - 1])
        chosen = self._order[first : int(self._ends[within])]
        is_own = chosen < (self._n_own if self._is_apart else len(self.lengths))
        return chosen[is_own].tolist(), chosen[~is_own].tolist()

    def _shuffle(self, epoch: int) -> None:
        generator = np.random.default_rng([self.settings.seed, epoch])
        own = [
            part for pool in self._pools for part in _draw(generator, pool.first, pool.end, pool.n)
        ]
        again = _draw(generator, self._n_own, len(self.lengths), self._n_replayed)
        self._order = generator.permutation(
            np.concatenate([*(own or [np.arange(self._n_own)]), *again])
        )
        n_items, n_steps = len(self._order), self._rounds_per_epoch
        filled = np.cumsum(self.lengths[self._order])
        marks = filled[-1] * np.arange(1, n_steps + 1) / n_steps
        ends = np.searchsorted(filled, marks)
        # Each step gets an item of its own, also where one item is longer than a step should be.
        steps = np.arange(n_steps)
        ends = np.maximum.accumulate(np.maximum(ends, 1) - steps) + steps
        self._ends = np.minimum(ends, n_items - n_steps + 1 + steps)
        self._ends[-1] = n_items
        self._epoch = epoch


class _Pool(NamedTuple):
    """The items of one source, and how many of them an epoch takes."""

    first: int
    end: int
    n: int


def _pools(data: TrainingData, lengths: NDArray[np.int64]) -> list[_Pool]:
    """Return what an epoch takes of each source: as many tokens in all as they hold together."""
    found, first = [], 0
    total = sum(weight for _, weight in data.sources)
    for count, weight in data.sources:
        end = first + count
        tokens = data.rows.n_tokens * weight / total
        found.append(_Pool(first, end, max(1, round(tokens / lengths[first:end].mean()))))
        first = end
    return found


def _draw(
    generator: np.random.Generator, first: int, end: int, count: int
) -> list[NDArray[np.int64]]:
    """Draw items from `first` to `end`, each at most once more often than any other."""
    n_pool, drawn = end - first, []
    for left in range(count, 0, -max(n_pool, 1)):
        drawn.append(first + generator.permutation(n_pool)[:left])
    return drawn
