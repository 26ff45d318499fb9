"""The arithmetic of a comparison: medians, ratios, and whether the work was the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from benchmarks.cells import Cell
from benchmarks.measure import Outcome

# Two bf16 computations of the same thing differ by less; a wrong mask, rate or mean by far more.
LOSS_TOLERANCE = 0.02  # of a step's mean loss, averaged over the steps, in nats per token
NORM_TOLERANCE = 0.02  # of the gradient's norm, averaged over the steps, as a share
MOVE_TOLERANCE = 0.05  # of the distance that training moved the weights, as a share


@dataclass(frozen=True)
class Finalist:
    """One cell, measured in every round."""

    cell: Cell
    rounds: tuple[Outcome, ...]

    @property
    def speed(self) -> float:
        """Median of real tokens per second."""
        return median(outcome.speed for outcome in self.rounds)

    @property
    def peak(self) -> float:
        """Median of the peak memory, in bytes."""
        return median(outcome.peak for outcome in self.rounds)


def fastest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the fastest cell of those that did the same work."""
    done = [outcome for outcome in outcomes if outcome.is_usable]
    return max(done, key=lambda outcome: outcome.speed, default=None)


def leanest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the cell with the lowest peak of those that did the same work."""
    done = [outcome for outcome in outcomes if outcome.is_usable]
    return min(done, key=lambda outcome: outcome.peak, default=None)


def speed_ratio(ours: Finalist, peer: Finalist) -> dict[str, Any]:
    """Return how many times the peer's tokens per second we reach, and per round."""
    pairs = zip(ours.rounds, peer.rounds, strict=True)
    return {
        "ratio": ours.speed / peer.speed,
        "rounds": [mine.speed / theirs.speed for mine, theirs in pairs],
    }


def same_work(ours: Outcome, peer: Outcome) -> dict[str, Any]:
    """Compare losses and gradients of the same steps, and how far the weights moved.

    Both cells must have had the same rows in the same steps.
    """
    losses = _pairs(ours, peer, "losses")
    norms = _pairs(ours, peer, "gradient_norms")
    loss_gap = fmean(abs(mine - theirs) for mine, theirs in losses)
    norm_gap = fmean(abs(mine / theirs - 1) for mine, theirs in norms)
    move_gap = abs(ours.result["moved"] / peer.result["moved"] - 1)
    is_finite = all(math.isfinite(value) for pair in losses + norms for value in pair)
    is_within = (
        loss_gap <= LOSS_TOLERANCE and norm_gap <= NORM_TOLERANCE and move_gap <= MOVE_TOLERANCE
    )
    return {
        "is_same": is_finite and is_within,
        "compared_with": ours.cell.name,
        "steps": len(losses),
        "loss_gap": loss_gap,
        "norm_gap": norm_gap,
        "move_gap": move_gap,
        "last_losses": list(losses[-1]),
    }


def _pairs(ours: Outcome, peer: Outcome, key: str) -> list[tuple[float, float]]:
    return list(zip(ours.result[key], peer.result[key], strict=True))
