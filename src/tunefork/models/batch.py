"""Rows packed into one long row, with the places where a prediction is weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.data.items import Items
from tunefork.data.tokens import TokenRows
from tunefork.models.layout import PackedLayout, Segment
from tunefork.models.prefix import clusters, share_beginnings, whole

# On a processor each new number of tokens has a kernel compiled for every product of a layer, which
# takes up to a third of a small model's step. So long rows end with a document of filling, which
# nothing sees and nothing is learned from: few lengths are left.
_ROUND_TO, _ROUND_FROM = 64, 512  # tokens


@dataclass(frozen=True)
class Batch:
    """One packed row. Only `keep` places reach the output head."""

    ids: torch.Tensor  # (tokens,): each shared beginning once, then filling
    layout: PackedLayout
    keep: torch.Tensor  # (predictions,): places whose next token carries weight
    targets: torch.Tensor  # (predictions,): that next token
    weights: torch.Tensor  # (predictions,) float32
    documents: torch.Tensor  # (predictions,): which of the packed rows each belongs to
    ends: torch.Tensor  # (rows,): the place of each row's last token
    n_tokens: int  # of the packed rows, each counted in full
    n_rows: int  # the packed rows, those of an item side by side
    columns: dict[str, torch.Tensor]  # each (rows,) float32: what is known of each row
    along: dict[str, torch.Tensor]  # each (predictions,) float32: what is known of each target


def collate(
    rows: TokenRows | Items,
    chosen: Sequence[int],
    device: torch.device | str = "cpu",
    *,
    shares: bool = True,
) -> Batch:
    """Pack the chosen items into one row; tokens with which rows of them begin stand there once.

    A row's first token is never predicted: nothing of its own document precedes it.

    Args:
        rows: Where they are; plain rows are items of one row each.
        chosen: Their numbers.
        device: Where the batch is to be.
        shares: Whether equal beginnings are computed once. The slow reference says no.
    """
    items = Items.of(rows)
    numbers = items.rows_of(chosen)
    parts = [items.rows.row(number) for number in numbers.tolist()]
    ids = [part[0] for part in parts]
    stretches = share_beginnings(ids) if shares else whole(ids)
    segments = [Segment(part.end - part.begin, part.parent) for part in stretches]
    filling = _filling(sum(segment.length for segment in segments))
    layout = PackedLayout([*segments, *(Segment(n) for n in filling)], device)
    by_row = {
        stretch.rows[0]: path.numpy()  # a row's places: those of its end, and all before
        for stretch, path in zip(stretches, layout.paths, strict=False)  # filling is no row
        if len(stretch.rows) == 1
    }
    predicted = [1 + np.flatnonzero(weights[1:]) for _, weights in parts]
    keep = [by_row[number][at - 1] for number, at in enumerate(predicted)]
    targets = [row[at] for row, at in zip(ids, predicted, strict=True)]
    weights = [part[1][at] for part, at in zip(parts, predicted, strict=True)]
    packed = [ids[part.rows[0]][part.begin : part.end] for part in stretches]
    packed += [np.zeros(n, np.int64) for n in filling]
    return Batch(
        ids=_tensor(packed, np.int64, device),
        layout=layout,
        keep=_tensor(keep, np.int64, device),
        targets=_tensor(targets, np.int64, device),
        weights=_tensor(weights, np.float32, device),
        documents=_tensor(
            [np.full(len(at), number) for number, at in enumerate(predicted)], np.int64, device
        ),
        ends=_tensor([by_row[number][-1:] for number in range(len(ids))], np.int64, device),
        n_tokens=sum(len(row) for row in ids),
        n_rows=len(ids),
        columns={
            name: torch.from_numpy(column[numbers]).to(device)
            for name, column in items.columns.items()
        },
        along={
            name: _tensor(
                [
                    values.row(number)[1][at]
                    for number, at in zip(numbers.tolist(), predicted, strict=True)
                ],
                np.float32,
                device,
            )
            for name, values in items.along.items()
        },
    )


def pack(rows: TokenRows | Items, chosen: Sequence[int], limit: int) -> list[list[int]]:
    """Cut items into batches of at most `limit` tokens to compute (one item at least).

    Items that begin alike come together, since what they share is computed once; the tokens with
    which a batch's first items begin alike do not count. Otherwise items of similar length come
    together, the longest first.
    """
    items = Items.of(rows)
    sizes = {index: _size(items, index) for index in chosen}
    groups = clusters([items.rows.row(int(items.starts[index]))[0] for index in chosen])
    ordered = [
        (
            sorted((chosen[number] for number in group), key=lambda index: -sizes[index].length),
            min([shared, *(sizes[chosen[number]].shared for number in group)]),
        )
        for group, shared in groups
    ]
    ordered.sort(key=lambda group: -sizes[group[0][0]].length)
    batches: list[list[int]] = []
    filled, first = limit, -1  # first: the group that the batch began with
    for number, (group, shared) in enumerate(ordered):
        is_there = False  # whether the batch has the group's shared beginning already
        for index in group:
            own = sizes[index].length - shared
            needed = own if is_there or number == first else own + shared
            if filled + needed > limit or not batches:
                batches.append([])
                # What all items of a batch share comes free, or there would be few to share it.
                filled, first, needed = 0, number, own
            batches[-1].append(index)
            filled += needed
            is_there = True
    return batches


class _Size(NamedTuple):
    """What an item costs when it is computed alone."""

    length: int  # tokens to compute
    shared: int  # tokens with which all its rows begin


def _size(items: Items, index: int) -> _Size:
    first, end = items.starts[index : index + 2].tolist()
    if end - first == 1:
        length = int(items.rows.lengths[first])
        return _Size(length, length)
    stretches = share_beginnings([items.rows.row(row)[0] for row in range(first, end)])
    root = stretches[0]
    return _Size(
        sum(part.end - part.begin for part in stretches),
        root.end if len(root.rows) == end - first else 0,
    )


def _filling(n_tokens: int) -> list[int]:
    """Return the length of the filling behind so many tokens, or nothing."""
    missing = -n_tokens % _ROUND_TO
    return [missing] if missing and n_tokens >= _ROUND_FROM else []


def _tensor(
    parts: Sequence[NDArray[np.generic]], kind: type[np.generic], device: torch.device | str
) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(kind)).to(device)
