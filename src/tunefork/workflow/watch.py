"""Watch what a model forgets while it learns, at a small share of the training's time.

The base answers the half of the general probe that may guide choices. Of what it was least sure
of, right or wrong, as many items as the budget of time allows are asked again at every validation:
an item that the base was sure of changes its answer last. The drop is what of these was lost, less
what was won, as a share of all that the base was asked. So it is near the drop on all of them while
it is small; once all that is watched is lost it says no more than that, which is far beyond any
budget.

How many are asked follows from numbers of tokens, not from a clock, so that a run can be resumed
and replayed to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import Where
from tunefork.core.events import Noted, Sink
from tunefork.data import Example, Message, Renderer, TokenRows
from tunefork.evaluation import ProbeItem
from tunefork.inference import score_rows
from tunefork.training import TrainingData, TrainSettings, Watch

_SHARE = 0.1  # of the time that training takes
# A token that is only scored takes about this share of the time of one that is learned from.
_SCORING = 0.4
_FEWEST_ASKED, _FEWEST_WATCHED = 100, 20  # items; with fewer nothing is watched


@dataclass(frozen=True)
class _Choices:
    """Choices of items as rows, one after the other."""

    items: Sequence[ProbeItem]
    rows: TokenRows
    starts: NDArray[np.int64]  # (items + 1,): where each item's rows begin

    def select(self, chosen: Sequence[int]) -> _Choices:
        """Return some of the items."""
        at = [row for item in chosen for row in range(self.starts[item], self.starts[item + 1])]
        sizes = [int(self.starts[item + 1] - self.starts[item]) for item in chosen]
        items = [self.items[item] for item in chosen]
        return _Choices(items, self.rows.select(np.array(at)), np.cumsum([0, *sizes]))

    def tokens(self) -> list[int]:
        """Return how many tokens each item has."""
        counts: list[int] = np.add.reduceat(self.rows.lengths, self.starts[:-1]).tolist()
        return counts

    def margins(self, model: Any, micro_tokens: int) -> list[float]:
        """Return by how much each right choice is likelier than the likeliest other, per token.

        No more is computed at once than training has room for.
        """
        scores = score_rows(model, self.rows, micro_tokens=micro_tokens)
        means = [score.mean for score in scores]
        found = []
        for at, item in enumerate(self.items):
            values = means[self.starts[at] : self.starts[at + 1]]
            right = values.pop(item.answer)
            found.append(right - max(values))
        return found


def general_watch(
    model: Any,
    items: Sequence[ProbeItem],
    renderer: Renderer,
    data: TrainingData,
    settings: TrainSettings,
    budget: float,
    sink: Sink,
) -> TrainingData:
    """Return the data with a watch over what is forgotten, where there is time for one.

    Args:
        model: The base as loaded, with nothing attached to it.
        items: General questions that may guide choices.
        renderer: Makes rows of them.
        data: What will be learned from.
        settings: How long it will be learned from.
        budget: The largest drop allowed.
        sink: Told what is watched.
    """
    if data.validation is None or settings.validate_every == 0 or not items:
        return data
    steps = max(1, round(data.tokens_per_epoch / settings.batch_tokens)) * settings.epochs
    times = -(-steps // settings.validate_every)
    room = _SHARE / _SCORING * data.tokens_per_epoch * settings.epochs / 2  # tokens
    choices = _choices(items, renderer)
    asked = _fitting(range(len(items)), choices.tokens(), room)
    choices = choices.select(asked)
    if len(asked) < _FEWEST_ASKED:
        return data
    margins = choices.margins(model, settings.micro_tokens)
    by_doubt = sorted(range(len(asked)), key=lambda at: abs(margins[at]))
    chosen = _fitting(by_doubt, choices.tokens(), room / times)
    if len(chosen) < max(_FEWEST_WATCHED, 2 * budget * len(asked)):
        return data
    watched = choices.select(chosen)
    n_right = sum(margins[at] > 0 for at in chosen)

    def measure() -> float:
        now = watched.margins(model, settings.micro_tokens)
        return (n_right - sum(margin > 0 for margin in now)) / len(asked)

    sink(Noted(f"watching {len(chosen)} of {len(asked)} general questions while it learns"))
    return replace(data, watch=Watch(measure, budget))


def _choices(items: Sequence[ProbeItem], renderer: Renderer) -> _Choices:
    rows = [
        renderer.render(
            Example(
                (Message("user", item.question), Message("assistant", choice)),
                Where("general probe"),
            )
        )
        for item in items
        for choice in item.choices
    ]
    starts = np.cumsum([0, *(len(item.choices) for item in items)])
    return _Choices(items, TokenRows.from_rendered(rows), starts)


def _fitting(order: Sequence[int], tokens: Sequence[int], room: float) -> list[int]:
    """Return the first items that fit, in their own order."""
    ends = np.cumsum([tokens[at] for at in order])
    return sorted(order[: int(np.searchsorted(ends, room, side="right"))])
