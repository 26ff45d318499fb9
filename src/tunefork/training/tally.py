"""Losses and metrics of several packed rows, added up and divided once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunefork.objectives import Loss


@dataclass(frozen=True)
class Mean:
    """The loss and the metrics per unit of weight."""

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)


class Tally:
    """Adds up sums."""

    def __init__(self) -> None:
        self._total = 0.0
        self._metrics: dict[str, tuple[float, float]] = {}  # sum, and weight of what told it

    def add(self, loss: Loss) -> None:
        """Add the sums of one packed row."""
        self._total += float(loss.total.detach())
        for name, value in loss.metrics.items():
            total, weight = self._metrics.get(name, (0.0, 0.0))
            self._metrics[name] = total + float(value), weight + float(loss.weight)

    @property
    def is_finite(self) -> bool:
        """Whether the loss is a number so far."""
        return math.isfinite(self._total)

    def mean(self, weight: float, known: Mapping[str, float] | None = None) -> Mean:
        """Return the means: of the loss over `weight`, of each metric over what told it.

        Args:
            weight: What the loss is divided by.
            known: Metrics that are means already.
        """
        means = dict(known or {}) | {
            name: total / own for name, (total, own) in self._metrics.items()
        }
        return Mean(self._total / weight, means)
