"""How well labels were told: per label, over all, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelResult:
    """One label: `precision` and `recall` are 0 where nothing was said to be it, or is it."""

    label: str
    texts: int  # that have it
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Confusion:
    """How often texts of one label were given another."""

    label: str
    given: str
    count: int


@dataclass(frozen=True)
class LabelResults:
    """Of texts with one label each; then micro-F1 is the accuracy."""

    accuracy: float
    labels: tuple[LabelResult, ...]  # in the order of their names
    confusions: tuple[Confusion, ...]  # the most frequent first

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that some text has."""
        found = [each.f1 for each in self.labels if each.texts]
        return sum(found) / len(found) if found else 0.0


def label_results(
    names: Sequence[str], labels: NDArray[np.int64], given: NDArray[np.int64]
) -> LabelResults:
    """Compare the labels that texts have with those they were given, both (texts,) by number."""
    counts = np.zeros((len(names), len(names)), np.int64)  # [label, given]
    np.add.at(counts, (labels, given), 1)
    right, said, there = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    wrong = counts - np.diag(right)
    pairs = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda pair: -wrong[pair])
    return LabelResults(
        accuracy=float(right.sum() / max(counts.sum(), 1)),
        labels=tuple(
            LabelResult(
                name,
                int(there[at]),
                float(right[at] / max(said[at], 1)),
                float(right[at] / max(there[at], 1)),
            )
            for at, name in enumerate(names)
        ),
        confusions=tuple(Confusion(names[at], names[to], int(wrong[at, to])) for at, to in pairs),
    )
