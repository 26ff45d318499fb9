"""Held-out texts with labels: how a classifier does, and a linear one on words beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.core.events import Sink
from tunefork.data import Items, Labelling
from tunefork.evaluation import Sheet
from tunefork.evaluation.bag_of_words import bag_of_several, bag_of_words
from tunefork.evaluation.calibration import Calibration, calibration
from tunefork.evaluation.classification import (
    NOTHING,
    LabelResults,
    label_results,
    several_results,
)
from tunefork.evaluation.thresholds import cross_fitted
from tunefork.inference import ChatModel, Classifier
from tunefork.objectives import LABEL
from tunefork.workflow.heads import held_out_shares
from tunefork.workflow.prepare import Prepared

_SHOWN_CONFUSIONS = 20
_MOST_IN_MATRIX = 16  # labels
_TOLD_CONFUSIONS = 3


@dataclass(frozen=True)
class Classified:
    """What a classifier and the linear one make of the same held-out texts."""

    results: LabelResults
    calibration: Calibration
    thresholds: tuple[float, ...]  # the least probability of each label
    n_texts: int
    n_left: int  # texts that are given no label
    baseline: LabelResults
    is_several: bool

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it."""
        results = self.results
        thresholds = dict(
            zip((each.label for each in results.labels), self.thresholds, strict=True)
        )
        return {
            "texts": self.n_texts,
            "accuracy": results.accuracy,
            "micro_f1": results.micro_f1,
            "macro_f1": results.macro_f1,
            "bag_of_words": {
                "accuracy": self.baseline.accuracy,
                "micro_f1": self.baseline.micro_f1,
                "macro_f1": self.baseline.macro_f1,
            },
            "labels": [each.as_dict() for each in results.labels],
            "confusions": [asdict(each) for each in results.confusions[:_SHOWN_CONFUSIONS]],
            "calibration": asdict(self.calibration),
            "thresholds": thresholds if self.is_several else None,
            "out_of_scope": None
            if self.is_several
            else {"threshold": max(self.thresholds), "texts": self.n_left},
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what a report says of it: (what, how much)."""
        results, told = self.results, self.results.confusions[:_TOLD_CONFUSIONS]
        weakest = min((each for each in results.labels if each.texts), key=lambda each: each.f1)
        worst = "; ".join(f"{each.label} as {each.given} ({each.count})" for each in told)
        name = "All labels right" if self.is_several else "Right labels"
        ours, linear = f"{results.accuracy:.1%}", f"{self.baseline.accuracy:.1%}"
        if self.is_several:
            ours += f" (micro F1 {results.micro_f1:.3f})"
            linear += f" (micro F1 {self.baseline.micro_f1:.3f})"
        is_told = self.is_several or max(self.thresholds) > 0
        return (
            (name, f"{ours} of the held-out texts"),
            ("Linear on words", f"{linear} of the same texts"),
            ("Macro F1", f"{results.macro_f1:.3f}, least {weakest.f1:.2f} ({weakest.label})"),
            ("Calibration error", f"{self.calibration.error:.3f}"),
            *((("Most confused", worst),) if worst else ()),
            *((("Left without a label", f"{self.n_left:,}"),) if is_told else ()),
        )

    def sheets(self) -> tuple[Sheet, ...]:
        """Return what a report shows of it: each label, what is taken for what, the calibration."""
        results = self.results
        names = [each.label for each in results.labels]
        per_label = tuple(
            (
                each.label,
                f"{each.texts:,}",
                f"{each.precision:.2f}",
                f"{each.recall:.2f}",
                f"{each.f1:.2f}",
                *((f"{least:.2f}",) if self.is_several else ()),
            )
            for each, least in zip(results.labels, self.thresholds, strict=True)
        )
        header = ("label", "texts", "precision", "recall", "F1")
        note = "On held-out texts."
        if self.is_several:
            note += " Thresholds were judged by other texts than they were chosen on."
        return (
            Sheet("Labels", note, (*header, *(("from",) * self.is_several)), per_label),
            _confusion_sheet(names, results),
            calibration_sheet(self.calibration),
        )


def _confusion_sheet(names: list[str], results: LabelResults) -> Sheet:
    """Return the whole matrix where it can be looked at; of more labels the most frequent pairs."""
    title, n_labels = "What is taken for what", len(names)
    if n_labels > _MOST_IN_MATRIX:
        note = f"Labels that texts have, and what they were given, of {n_labels} the most frequent."
        shown = results.confusions[:_SHOWN_CONFUSIONS]
        rows = tuple((each.label, each.given, f"{each.count:,}") for each in shown)
        return Sheet(title, note, ("label", "given", "texts"), rows)
    counts = {(each.label, each.given): each.count for each in results.confusions}
    counts |= {(each.label, each.label): each.right for each in results.labels}
    columns = [
        *names,
        *([NOTHING] if any(each.given == NOTHING for each in results.confusions) else []),
    ]
    matrix = tuple(
        (name, *(f"{counts.get((name, given), 0):,}" for given in columns)) for name in names
    )
    note = "A row for each label that texts have, a column for what they were given."
    return Sheet(title, note, ("label", *columns), matrix)


def calibration_sheet(found: Calibration) -> Sheet:
    """Return how often what was claimed with some probability came true."""
    rows = tuple(
        (f"{each.probability:.0%}", f"{each.share:.0%}", f"{each.count:,}") for each in found.bins
    )
    note = f"Off by {found.error:.1%} on average (expected calibration error)."
    return Sheet("Calibration", note, ("said", "came true", "times"), rows)


def classification(chat: ChatModel, prepared: Prepared, sink: Sink) -> Classified | None:
    """Return how a classifier does on held-out texts; None where it is none, or there are none."""
    labelling = prepared.labelling
    if not isinstance(chat, Classifier) or labelling is None:
        return None
    found = held_out_shares(chat, prepared, sink)
    if found is None:
        return None
    shares, right = found
    known = Items.of(prepared.data.rows).columns[LABEL]
    return (_several if chat.is_several else _one)(chat, labelling, shares, known, right)


def _one(
    chat: Classifier,
    labelling: Labelling,
    shares: NDArray[np.float64],
    known: NDArray[np.float32],
    right: NDArray[np.float32],
) -> Classified:
    """Judge by the likeliest label of each text."""
    labels, given = right.astype(np.int64), shares.argmax(axis=1)
    linear = bag_of_words(labelling.training, known.astype(np.int64), labelling.held_out)
    best = shares.max(axis=1)
    return Classified(
        results=label_results(labelling.names, labels, given),
        calibration=calibration(best, given == labels),
        thresholds=chat.thresholds,
        n_texts=len(labels),
        n_left=int((best < chat.thresholds[0]).sum()),
        baseline=label_results(labelling.names, labels, linear),
        is_several=False,
    )


def _several(
    chat: Classifier,
    labelling: Labelling,
    shares: NDArray[np.float64],
    known: NDArray[np.float32],
    right: NDArray[np.float32],
) -> Classified:
    """Judge every label of each text; thresholds come from other texts than they are judged by."""
    has = right > 0
    linear = bag_of_several(labelling.training, known.astype(np.float64), labelling.held_out)
    given = cross_fitted(shares, has)
    return Classified(
        results=several_results(labelling.names, has, given),
        calibration=calibration(shares.ravel(), has.ravel()),
        thresholds=chat.thresholds,
        n_texts=len(has),
        n_left=int((~given.any(axis=1)).sum()),
        baseline=several_results(labelling.names, has, cross_fitted(linear, has)),
        is_several=True,
    )
