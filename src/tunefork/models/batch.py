"""Rows packed into one long row, with the places where a prediction is weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.data.tokens import TokenRows
from tunefork.models.layout import PackedLayout


@dataclass(frozen=True)
class Batch:
    """One packed row. Only `keep` places reach the output head."""

    ids: torch.Tensor  # (tokens,)
    layout: PackedLayout
    keep: torch.Tensor  # (predictions,): places whose next token carries weight
    targets: torch.Tensor  # (predictions,): that next token
    weights: torch.Tensor  # (predictions,) float32
    documents: torch.Tensor  # (predictions,): which of the packed rows each belongs to

    @property
    def n_tokens(self) -> int:
        """Tokens in the packed row, trained or not."""
        return len(self.ids)


def collate(rows: TokenRows, chosen: Sequence[int], device: torch.device | str = "cpu") -> Batch:
    """Pack the chosen rows, in that order, into one row.

    A row's first token is never predicted: nothing of its own document precedes it.
    """
    parts = [rows.row(index) for index in chosen]
    ids = np.concatenate([part[0] for part in parts]).astype(np.int64)
    weights = np.concatenate([part[1] for part in parts])
    lengths = [len(part[0]) for part in parts]
    starts = np.cumsum(lengths) - lengths
    weights[starts] = 0.0  # `concatenate` made a copy
    predicted = np.flatnonzero(weights)
    documents = np.repeat(np.arange(len(parts)), lengths)[predicted]
    return Batch(
        ids=torch.from_numpy(ids).to(device),
        layout=PackedLayout(lengths, device),
        keep=torch.from_numpy(predicted - 1).to(device),
        targets=torch.from_numpy(ids[predicted]).to(device),
        weights=torch.from_numpy(weights[predicted]).float().to(device),
        documents=torch.from_numpy(documents).to(device),
    )


def pack_by_tokens(lengths: NDArray[np.int64], order: Sequence[int], limit: int) -> list[list[int]]:
    """Cut an order of rows into batches of at most `limit` tokens (one row at least)."""
    batches: list[list[int]] = []
    filled = limit + 1
    for index in order:
        length = int(lengths[index])
        if filled + length > limit:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += length
    return batches
