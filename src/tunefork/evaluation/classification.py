"""How well labels were told: per label, over all, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = "(none)"  # given in place of a label where no other label was


@dataclass(frozen=True)
class LabelResult:
    """One label: `precision` and `recall` are 0 where nothing was said to be it, or is it."""

    label: str
    texts: int  # that have it
    given: int  # that were said to have it
    right: int  # of both

    @property
    def precision(self) -> float:
        """The share of the texts said to have it that have it."""
        return self.right / max(self.given, 1)

    @property
    def recall(self) -> float:
        """The share of the texts that have it that were said to."""
        return self.right / max(self.texts, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / max(self.texts + self.given, 1)

    def as_dict(self) -> dict[str, str | int | float]:
        """Return it as plain data."""
        return {
            "label": self.label,
            "texts": self.texts,
            "given": self.given,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
        }


@dataclass(frozen=True)
class Confusion:
    """How often texts of one label were given another."""

    label: str
    given: str
    count: int


@dataclass(frozen=True)
class LabelResults:
    """Over all texts; where each has one label and is given one, micro-F1 is the accuracy."""

    accuracy: float  # share of texts whose labels were told exactly
    labels: tuple[LabelResult, ...]  # in the order of their names
    confusions: tuple[Confusion, ...]  # the most frequent first

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels that some text has."""
        found = [each.f1 for each in self.labels if each.texts]
        return sum(found) / len(found) if found else 0.0

    @property
    def micro_f1(self) -> float:
        """F1 over all labels of all texts at once."""
        right = sum(each.right for each in self.labels)
        return 2 * right / max(sum(each.texts + each.given for each in self.labels), 1)


def label_results(
    names: Sequence[str], labels: NDArray[np.int64], given: NDArray[np.int64]
) -> LabelResults:
    """Compare the labels that texts have with those they were given, both (texts,) by number."""
    each = np.eye(len(names), dtype=bool)
    return several_results(names, each[labels], each[given])


def several_results(
    names: Sequence[str], has: NDArray[np.bool_], given: NDArray[np.bool_]
) -> LabelResults:
    """Compare the labels that texts have with those they were given, both (texts, labels).

    A label that a text has and was not given is confused with each that it was wrongly given.
    """
    missed, wrong = has & ~given, given & ~has
    counts = missed.T.astype(np.int64) @ wrong.astype(np.int64)  # [label, given]
    nothing = missed[~wrong.any(axis=1)].sum(axis=0)
    counts = np.concatenate([counts, nothing[:, None]], axis=1)
    pairs = sorted(zip(*np.nonzero(counts), strict=True), key=lambda pair: -counts[pair])
    columns = [*names, NOTHING]
    there, said, right = (each.sum(axis=0).tolist() for each in (has, given, has & given))
    return LabelResults(
        accuracy=float((has == given).all(axis=1).mean()) if len(has) else 0.0,
        labels=tuple(
            LabelResult(name, there[at], said[at], right[at]) for at, name in enumerate(names)
        ),
        confusions=tuple(
            Confusion(names[at], columns[to], int(counts[at, to])) for at, to in pairs
        ),
    )
