"""Log-probabilities of chosen tokens, and what their gradient is made of, in one look at logits."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Chosen(NamedTuple):
    """Of each row of logits, all float32."""

    log_probs: torch.Tensor  # of the target, (rows, 1)
    exponentials: torch.Tensor  # (rows, vocabulary), in the given room; over `total` the softmax
    total: torch.Tensor  # their sum, (rows, 1)


def room_for_logits(n_rows: int, most_bytes: int, head: torch.Tensor) -> torch.Tensor:
    """Return room for as many rows of float32 logits as there are, or fit: (rows, vocabulary).

    It is used for one part of the rows after the other: new memory costs more than the sums.
    """
    fitting = max(1, most_bytes // (4 * head.shape[0]))
    return torch.empty(min(fitting, n_rows), head.shape[0], device=head.device)


def choose(logits: torch.Tensor, target: torch.Tensor, room: torch.Tensor) -> Chosen:
    """Return what a chunk of logits makes of its targets.

    Args:
        logits: (rows, vocabulary), in any number format.
        target: (rows, 1).
        room: From `room_for_logits`.
    """
    wide = room[: len(logits)].copy_(logits)
    largest = wide.amax(dim=1, keepdim=True)
    chosen = wide.gather(1, target) - largest
    exponentials = wide.sub_(largest).exp_()
    total = exponentials.sum(dim=1, keepdim=True)
    return Chosen(chosen - total.log(), exponentials, total)
