"""Watch what a model forgets while it learns, at a small share of the training's time.

The base answers the half of the general probe that may guide choices. Of what it was least sure
of, right or wrong, as many items as the budget of time allows are asked again at every validation,
the right choice beside its strongest rival: an item that the base was sure of changes its answer
last. The drop is what of these was lost, less what was won, as a share of all that the base was
asked. So it is near the drop on all of them while it is small; once all that is watched is lost it
says no more than that, which is far beyond the budget.

How many are asked follows from numbers of tokens, not from a clock, so that a run can be resumed
and replayed to the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np

from tunefork.core.errors import Where
from tunefork.core.events import Noted, Sink
from tunefork.data import Example, Message, Rendered, Renderer, TokenRows
from tunefork.evaluation import ProbeItem
from tunefork.inference import score_rows
from tunefork.training import TrainingData, TrainSettings, Watch

_SHARE = 0.08  # of the time that training takes; making rows of the questions comes on top
# A token that is only scored takes about this share of the time of one that is learned from.
_SCORING = 0.4
_FEWEST_ASKED, _FEWEST_WATCHED = 100, 20  # items; with fewer nothing is watched


@dataclass(frozen=True)
class _Item:
    """The rows of an item's choices, the right one first."""

    rows: tuple[int, ...]
    tokens: int  # to compute: what its rows begin with alike is computed once


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
    rendered, asked = _rendered(items, renderer, room)
    if len(asked) < _FEWEST_ASKED:
        return data
    rows = TokenRows.from_rendered(rendered)
    found = _scores(model, rows, asked, settings.micro_tokens)
    rivals = [max(range(1, len(means)), key=means.__getitem__) for means in found]
    margins = [means[0] - means[rival] for means, rival in zip(found, rivals, strict=True)]
    by_doubt = sorted(range(len(asked)), key=lambda at: abs(margins[at]))
    pairs = [_only(rows, asked[at], rivals[at]) for at in by_doubt]
    watched = _fitting(pairs, room / times)
    if len(watched) < max(_FEWEST_WATCHED, 2 * budget * len(asked)):
        return data
    n_right = sum(margins[at] > 0 for at in by_doubt[: len(watched)])

    def measure() -> float:
        now = _scores(model, rows, watched, settings.micro_tokens)
        return (n_right - sum(right > rival for right, rival in now)) / len(asked)

    sink(Noted(f"watching {len(watched)} of {len(asked)} general questions while it learns"))
    return replace(data, watch=Watch(measure, budget))


def _rendered(
    items: Sequence[ProbeItem], renderer: Renderer, room: float
) -> tuple[list[Rendered], list[_Item]]:
    """Return each choice as the answer to its question, of the first items that fit."""
    found: list[_Item] = []
    rendered: list[Rendered] = []
    for item in items:
        choices = (item.choices[item.answer], *_without(item.choices, item.answer))
        new = []
        for choice in choices:
            turns = (Message("user", item.question), Message("assistant", choice))
            new.append(renderer.render(Example(turns, Where("general probe"))))
        tokens = _computed([each.ids for each in new])
        room -= tokens
        if room < 0:
            break
        found.append(_Item(tuple(range(len(rendered), len(rendered) + len(new))), tokens))
        rendered += new
    return rendered, found


def _without(choices: Sequence[str], at: int) -> tuple[str, ...]:
    return (*choices[:at], *choices[at + 1 :])


def _only(rows: TokenRows, item: _Item, rival: int) -> _Item:
    """Return an item with one of its wrong choices only."""
    pair = (item.rows[0], item.rows[rival])
    return _Item(pair, _computed([rows.row(at)[0].tolist() for at in pair]))


def _computed(ids: Sequence[Sequence[int]]) -> int:
    """Return how many tokens rows have, with what they begin with alike counted once."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False))
    shared = sum(1 for _ in alike)
    return shared + sum(len(each) - shared for each in ids)


def _scores(
    model: Any, rows: TokenRows, items: Sequence[_Item], micro_tokens: int
) -> list[list[float]]:
    """Return the mean log-probability per token of each item's choices.

    No more is computed at once than training has room for.
    """
    chosen = rows.select(np.array([at for item in items for at in item.rows]))
    means = iter(score.mean for score in score_rows(model, chosen, micro_tokens=micro_tokens))
    return [[next(means) for _ in item.rows] for item in items]


def _fitting(items: Sequence[_Item], room: float) -> list[_Item]:
    """Return the first items that fit."""
    ends = np.cumsum([item.tokens for item in items])
    return list(items[: int(np.searchsorted(ends, room, side="right"))])
