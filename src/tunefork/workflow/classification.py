"""Held-out texts with labels: how a classifier does, and a linear one on words beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunefork.core.events import Progress, Sink
from tunefork.data import Items
from tunefork.evaluation.bag_of_words import bag_of_words
from tunefork.evaluation.calibration import Calibration, calibration
from tunefork.evaluation.classification import LabelResults, label_results
from tunefork.inference import ChatModel, Classifier, head_outputs
from tunefork.workflow.prepare import Prepared

_SHOWN_CONFUSIONS = 20
_TOLD_CONFUSIONS = 3


@dataclass(frozen=True)
class Classified:
    """What a classifier and the linear one make of the same held-out texts."""

    results: LabelResults
    calibration: Calibration
    threshold: float  # of the least probability
    n_left: int  # texts whose likeliest label is below it
    baseline: LabelResults

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it."""
        results = self.results
        return {
            "texts": sum(each.texts for each in results.labels),
            "accuracy": results.accuracy,
            "macro_f1": results.macro_f1,
            "bag_of_words": {
                "accuracy": self.baseline.accuracy,
                "macro_f1": self.baseline.macro_f1,
            },
            "labels": [{**asdict(each), "f1": each.f1} for each in results.labels],
            "confusions": [asdict(each) for each in results.confusions[:_SHOWN_CONFUSIONS]],
            "calibration": asdict(self.calibration),
            "out_of_scope": {"threshold": self.threshold, "texts": self.n_left},
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what a report says of it: (what, how much)."""
        results, told = self.results, self.results.confusions[:_TOLD_CONFUSIONS]
        weakest = min((each for each in results.labels if each.texts), key=lambda each: each.f1)
        worst = "; ".join(f"{each.label} as {each.given} ({each.count})" for each in told)
        return (
            ("Right labels", f"{results.accuracy:.1%} of the held-out texts"),
            ("Linear on words", f"{self.baseline.accuracy:.1%} of the same texts"),
            ("Macro F1", f"{results.macro_f1:.3f}, least {weakest.f1:.2f} ({weakest.label})"),
            ("Calibration error", f"{self.calibration.error:.3f}"),
            *((("Most confused", worst),) if worst else ()),
            *((("Left without a label", f"{self.n_left:,}"),) if self.threshold else ()),
        )


def classification(chat: ChatModel, prepared: Prepared, sink: Sink) -> Classified | None:
    """Return how a classifier does on held-out texts; None where it is none, or there are none."""
    held_out, labelling = prepared.data.validation, prepared.labelling
    if not isinstance(chat, Classifier) or held_out is None or labelling is None:
        return None
    rows = Items.of(held_out).rows

    def tell(done: int) -> None:
        sink(Progress("held-out texts", done, len(rows)))

    shares, given = head_outputs(chat.model, chat.head, rows, tell).softmax(dim=1).max(dim=1)
    numbers = {name: at for at, name in enumerate(labelling.names)}
    known, labels = (
        np.array([numbers[row.label] for row in part], np.int64)
        for part in (labelling.training, labelling.held_out)
    )
    linear = bag_of_words(
        [row.text for row in labelling.training], known, [row.text for row in labelling.held_out]
    )
    found = given.numpy()
    return Classified(
        results=label_results(labelling.names, labels, found),
        calibration=calibration(shares.numpy(), found == labels),
        threshold=chat.threshold,
        n_left=int((shares < chat.threshold).sum()),
        baseline=label_results(labelling.names, labels, linear),
    )
