"""The gradient of a sample of the rows, before anything is learned from them."""

from __future__ import annotations

import numpy as np
import torch

from tunefork.core.events import Progress, Sink
from tunefork.data.items import Items
from tunefork.models import collate, pack
from tunefork.training.guards import name_training
from tunefork.training.packing import TrainingData
from tunefork.training.room import NoRoom, room_for, smaller
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep

_MOST_ROWS, _MOST_TOKENS = 64, 16384
_SHARE = 0.05  # of the tokens of the whole training, over all calls


class SampleGradient:
    """Each call adds up the gradients of the same rows in the parameters, and nothing moves.

    The rows are the user's own, and follow from the seed; `packed` lists them as they are computed
    together. Where memory runs out, `settings` ask for less at once from then on.
    """

    def __init__(
        self,
        step_module: TrainStep,
        data: TrainingData,
        settings: TrainSettings,
        calls: int,
        sink: Sink,
    ) -> None:
        """Draw the rows: few, so that all calls take no more than a twentieth of the training.

        Args:
            step_module: Model and objective.
            data: Where the rows are drawn from.
            settings: See `TrainSettings`.
            calls: How many times it will be called.
            sink: Told how far it is.
        """
        self.settings = settings
        self._step_module, self._data, self._sink = step_module, data, sink
        self._items = Items.of(data.rows)
        most = data.tokens_per_epoch * settings.epochs * _SHARE / calls
        order = np.random.default_rng(settings.seed).permutation(len(self._items))[:_MOST_ROWS]
        ends = self._items.lengths[order].cumsum()
        count = int(np.searchsorted(ends, min(most, _MOST_TOKENS), side="right"))
        self._chosen: list[int] = order[: max(1, count)].tolist()
        self._done, self._calls = 0, calls

    @property
    def packed(self) -> list[list[int]]:
        """The rows, as many together as have room."""
        return pack(self._items, self._chosen, self.settings.micro_tokens)

    def __call__(self) -> None:
        """Add them up.

        Raises:
            RunError: A single row does not fit into memory.
        """
        self._step_module.train()
        while True:
            try:
                self._add_up(self.packed)
            except NoRoom as refused:  # the same rows again, cut smaller
                self._step_module.zero_grad(set_to_none=True)
                self.settings = smaller(
                    self.settings, refused, self._items, name_training(self._data), self._sink
                )
            else:
                self._done += 1
                return

    def _add_up(self, packed: list[list[int]]) -> None:
        device = next(self._step_module.parameters()).device
        torch.manual_seed(self.settings.seed)  # for dropout
        total = self._calls * len(packed)
        for number, chosen in enumerate(packed, self._done * len(packed) + 1):
            with room_for(chosen):
                loss = self._step_module(collate(self._items, chosen, device)).total
                if bool(loss.isfinite()):  # the run will skip what is no number, and name it
                    torch.autograd.backward(loss)
            self._sink(Progress("looking where to begin", number, total))
