"""Where LoRA begins: A along the directions of its input that the first steps want to use.

With a random A the first steps move a layer along random directions only. Here A's rows are the
leading right singular vectors of the gradient G (out, in) of the layer's own weight, as in LoRA-GA
(Wang et al. 2024, arXiv 2407.05000), so that the first step is the best one of its rank; B stays
zero, so that nothing changes at the start. G is never made: with B zero the gradient of B is
G A^T, with A zero that of A is B^T G, and from both follows the randomised singular value
decomposition of Halko et al. 2011 (arXiv 0909.4061). It takes two backward passes over some rows,
and no more memory than a step of training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tunefork.strategies.lora import Lora
from tunefork.strategies.lora_layer import LowRankChange

PASSES = 2  # over the rows
_LEAST_SIZE = 1e-3  # of a direction beside the largest; what is smaller is rounding in bf16


def start_along_gradient(lora: Lora, model: Any, backward: Callable[[], None]) -> None:
    """Turn each A towards the gradient, and keep its size.

    A layer whose gradient is zero or no number keeps its random A, and so does one that is not
    larger than the rank. Where the gradient has fewer directions than A has rows, the others stay
    random, at right angles to them.

    Args:
        lora: As attached to the model, untrained.
        model: What it is attached to.
        backward: Adds up the gradients of some rows in the parameters' `grad`. They are the
            caller's to drop.
    """
    changes = [each for each in lora.changes(model).values() if _has_room(each)]
    random = [change.lora_A.detach().clone() for change in changes]
    backward()
    sketches = [_taken(change.lora_B) for change in changes]  # G A^T, (out, rank)
    with torch.no_grad():
        for change, sketch in zip(changes, sketches, strict=True):
            change.lora_A.zero_()
            change.lora_B.copy_(torch.linalg.qr(sketch).Q)
    backward()
    with torch.no_grad():
        for change, start in zip(changes, random, strict=True):
            change.lora_B.zero_()
            change.lora_A.copy_(_leading(_taken(change.lora_A), start))


def _has_room(change: LowRankChange) -> bool:
    rank, n_in = change.lora_A.shape
    return rank <= min(n_in, len(change.lora_B))


def _taken(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter's gradient, which it then has no more; what is no number counts as 0."""
    found = parameter.grad
    parameter.grad = None
    return torch.zeros_like(parameter) if found is None else found.nan_to_num(0.0, 0.0, 0.0)


def _leading(projected: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Return the right singular vectors of (rank, in) as rows, as large together as `start`."""
    if not projected.any():
        return start
    _, sizes, rows = torch.linalg.svd(projected, full_matrices=False)
    known = rows[sizes > _LEAST_SIZE * sizes[0]]
    found: torch.Tensor = torch.linalg.qr(torch.cat([known, start]).T).Q.T[: len(start)]
    found = found * (start.norm() / found.norm())
    return found
