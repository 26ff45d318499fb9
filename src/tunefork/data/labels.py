"""The labels of a file of texts with labels: their names, and which text has which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, did_you_mean
from tunefork.data.example import Labelled
from tunefork.data.items import Column
from tunefork.data.recognise import scan_kind

_Chosen = NDArray[np.int64]  # numbers of rows


@dataclass(frozen=True)
class LabelledTexts:
    """Every row of a file, in its order, with the names of its labels: one each, or several."""

    path: Path
    rows: tuple[Labelled, ...]
    labels: tuple[tuple[str, ...], ...]
    is_several: bool

    def texts(self, chosen: _Chosen) -> tuple[str, ...]:
        """Return the texts of some rows."""
        return tuple(self.rows[at].text for at in chosen.tolist())

    def names(self, chosen: _Chosen) -> tuple[str, ...]:
        """Return the labels of some rows, each once, sorted.

        Raises:
            DataError: All of the rows have the same.
        """
        found = {self.labels[at] for at in chosen.tolist()}
        names = tuple(sorted({name for labels in found for name in labels}))
        if len(found) > 1:
            return names
        have = f"the label `{names[0]}`" if len(names) == 1 else f"the same {len(names)} labels"
        raise DataError(
            f"every text has {have if names else 'no label'}, so there is nothing to tell apart",
            where=self.path,
            hint="bring texts of at least two labels"
            + (", or some without one" if self.is_several else ""),
        )

    def column(self, names: Sequence[str], chosen: _Chosen) -> Column:
        """Return what is to be told of each chosen row.

        Its label's place among the names, (rows,); of several labels a 1 at each that it has,
        (rows, labels).

        Raises:
            DataError: A label is not among them.
        """
        known = {name: number for number, name in enumerate(names)}
        found = np.zeros((len(chosen), len(names)), np.float32)
        for row, at in enumerate(chosen.tolist()):
            for name in self.labels[at]:
                if name not in known:
                    raise DataError(
                        f"no text that is trained on has the label `{name}`",
                        where=self.rows[at].where,
                        hint=did_you_mean(name, list(known))
                        or "bring such texts in `data.train`, or remove this one",
                    )
                found[row, known[name]] = 1
        return found if self.is_several else found.argmax(axis=1).astype(np.float32)

    def strata(self, chosen: _Chosen) -> _Chosen:
        """Return a number for each chosen row by which to hold out labels evenly.

        Of several labels the rarest counts, so that rare ones are held out too.
        """
        counts = Counter(name for at in chosen.tolist() for name in self.labels[at])
        rarest = [
            min(self.labels[at], key=lambda name: (counts[name], name), default="")
            for at in chosen.tolist()
        ]
        places: _Chosen = np.unique(np.array(rarest), return_inverse=True)[1]
        return places


@dataclass(frozen=True)
class Labelling:
    """The labels of a project, and the texts that were divided, in the order of their items."""

    names: tuple[str, ...]
    training: tuple[str, ...]
    held_out: tuple[str, ...]
    is_several: bool


def read_labelled(
    path: Path,
    mapping: Mapping[str, str] | None = None,
    *,
    is_several: bool = False,
    separator: str | None = None,
) -> LabelledTexts:
    """Read a file whose rows have been prepared, so that all of them can be read.

    Args:
        path: The file.
        mapping: See `scan_kind`.
        is_several: Whether a text may have several labels, or none.
        separator: What stands between labels that are written as one text.

    Raises:
        DataError: A text has several labels, and may have one.
    """
    found = [row for row in scan_kind(path, "labelled", mapping) if isinstance(row, Labelled)]
    labels = [_names(row, separator) for row in found]
    if not is_several:
        for row, names in zip(found, labels, strict=True):
            if len(names) != 1:
                raise DataError(
                    f"the text has {len(names) or 'no'} labels, and one is asked for",
                    where=row.where,
                    hint="for several: objective: {name: classify, labels: several}",
                )
    return LabelledTexts(path, tuple(found), tuple(labels), is_several)


def _names(row: Labelled, separator: str | None) -> tuple[str, ...]:
    if row.listed is not None:
        return tuple(sorted(row.listed))
    if separator is None:
        return (row.label,)
    parts = {part.strip() for part in row.label.split(separator)}
    return tuple(sorted(parts - {""}))
