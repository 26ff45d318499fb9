"""The labels of a file of texts with labels: their names, and which text has which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, did_you_mean
from tunefork.data.example import Labelled
from tunefork.data.recognise import scan_kind


@dataclass(frozen=True)
class LabelledTexts:
    """Every row of a file, in its order."""

    path: Path
    rows: tuple[Labelled, ...]

    def select(self, chosen: NDArray[np.int64]) -> tuple[Labelled, ...]:
        """Return some of the rows."""
        return tuple(self.rows[at] for at in chosen.tolist())

    def names(self, chosen: NDArray[np.int64]) -> tuple[str, ...]:
        """Return the labels of some rows, each once, sorted.

        Raises:
            DataError: There is only one.
        """
        names = tuple(sorted({self.rows[at].label for at in chosen.tolist()}))
        if len(names) < 2:
            raise DataError(
                f"every text has the label `{names[0]}`, so there is nothing to tell apart",
                where=self.path,
                hint="bring texts of at least two labels",
            )
        return names

    def numbers(self, names: Sequence[str], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each chosen row's label among the names.

        Raises:
            DataError: A label is not among them.
        """
        known = {name: number for number, name in enumerate(names)}
        for at in chosen.tolist():
            row = self.rows[at]
            if row.label not in known:
                raise DataError(
                    f"no text that is trained on has the label `{row.label}`",
                    where=row.where,
                    hint=did_you_mean(row.label, list(known))
                    or "bring such texts in `data.train`, or remove this one",
                )
        return np.array([known[self.rows[at].label] for at in chosen.tolist()], np.int64)


@dataclass(frozen=True)
class Labelling:
    """The labels of a project, by their numbers, and the texts that were divided."""

    names: tuple[str, ...]
    training: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]


def read_labelled(path: Path, mapping: Mapping[str, str] | None = None) -> LabelledTexts:
    """Read a file whose rows have been prepared, so that all of them can be read."""
    found = [row for row in scan_kind(path, "labelled", mapping) if isinstance(row, Labelled)]
    return LabelledTexts(path, tuple(found))
