"""The gradient of a sample of the rows, before anything is learned from them."""

from __future__ import annotations

import numpy as np
import torch

from tunefork.core.events import Progress, Sink
from tunefork.data.items import Items
from tunefork.models import collate, pack
from tunefork.training.packing import TrainingData
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep

_MOST_ROWS, _MOST_TOKENS = 64, 16384


class SampleGradient:
    """Each call adds up the gradients of the same rows in the parameters, and nothing moves.

    The rows are the user's own, and follow from the seed. They are computed as in training, no
    more at once, so that what has room there has room here; `packed` lists them so.
    """

    def __init__(
        self,
        step_module: TrainStep,
        data: TrainingData,
        settings: TrainSettings,
        calls: int,
        sink: Sink,
    ) -> None:
        """Draw the rows.

        Args:
            step_module: Model and objective.
            data: Where the rows are drawn from.
            settings: See `TrainSettings`.
            calls: How many times it will be called, to tell what is left.
            sink: Told how far it is.
        """
        items = Items.of(data.rows)
        order = np.random.default_rng(settings.seed).permutation(len(items))[:_MOST_ROWS]
        ends = items.lengths[order].cumsum()
        count = max(1, int(np.searchsorted(ends, _MOST_TOKENS, side="right")))
        self._items = items
        self.packed = list(pack(items, order[:count].tolist(), settings.micro_tokens))
        self._step_module, self._seed = step_module, settings.seed
        self._sink, self._done, self._total = sink, 0, calls * len(self.packed)

    def __call__(self) -> None:
        """Add them up."""
        device = next(self._step_module.parameters()).device
        torch.manual_seed(self._seed)  # for dropout
        self._step_module.train()
        for chosen in self.packed:
            batch = collate(self._items, chosen, device)
            torch.autograd.backward(self._step_module(batch).total)
            self._done += 1
            self._sink(Progress("looking where to begin", self._done, self._total))
