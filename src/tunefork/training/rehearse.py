"""Before the first step, compute the packed row that takes the most memory: it fits, or it is cut.

Nothing is learned from it. What would run out of memory hours later, when the longest rows come
together, does so now, and the run goes on with less at once from its first step (see `room`).
"""

from __future__ import annotations

import numpy as np

from tunefork.core.events import Sink
from tunefork.data.items import Items
from tunefork.models import collate, pack
from tunefork.training.guards import name_training
from tunefork.training.packing import TrainingData
from tunefork.training.room import NoRoom, room_for, smaller
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep

_ROWS_TO_FILL = 4  # packed rows that the longest items are asked to fill
_MANY_TOKENS = 1 << 15  # of answers as long as any that may be drawn


def rehearse(
    step_module: TrainStep, data: TrainingData, settings: TrainSettings, sink: Sink
) -> TrainSettings:
    """Return the settings with as many tokens computed at once as fit into memory.

    Raises:
        RunError: A single row does not fit.
    """
    items = data.together() if data.rollouts is None else data.rollouts.longest(_MANY_TOKENS)
    device = next(step_module.parameters()).device
    step_module.train()
    while True:
        chosen = heaviest(items, settings.micro_tokens)
        try:
            with room_for(chosen):
                step_module(collate(items, chosen, device)).total.backward()
        except NoRoom as refused:
            settings = smaller(settings, refused, items, name_training(data), sink)
        else:
            return settings
        finally:
            step_module.zero_grad(set_to_none=True)


def heaviest(items: Items, micro_tokens: int) -> list[int]:
    """Return the items of the fullest packed row that the longest of them fill."""
    order = np.argsort(-items.lengths, kind="stable")
    filled = np.cumsum(items.lengths[order])
    count = 1 + int(np.searchsorted(filled, _ROWS_TO_FILL * micro_tokens))
    batches = pack(items, order[:count].tolist(), micro_tokens)
    return max(batches, key=lambda chosen: int(items.lengths[chosen].sum()))
