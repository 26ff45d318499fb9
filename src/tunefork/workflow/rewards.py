"""Held-out pairs: how a reward model does, and where it disagrees with people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tunefork.core.events import Progress, Sink
from tunefork.data import Items
from tunefork.evaluation import Interval, Sheet, interval
from tunefork.evaluation.calibration import Calibration, calibration
from tunefork.inference import ChatModel, RewardModel, head_outputs
from tunefork.workflow.classification import calibration_sheet
from tunefork.workflow.prepare import Prepared

_SHOWN_PAIRS = 10


@dataclass(frozen=True)
class Disagreement:
    """A pair of which the model finds the worse answer better."""

    place: str  # in its file
    margin: float  # reward of the better answer less that of the worse one
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Rewarded:
    """What a reward model makes of held-out pairs."""

    accuracy: Interval
    calibration: Calibration  # of sigma(|margin|) as the probability that its favourite is better
    disagreements: tuple[Disagreement, ...]  # the furthest first
    n_pairs: int

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it."""
        return {
            "pairs": self.n_pairs,
            "accuracy": self.accuracy.mean,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "calibration": asdict(self.calibration),
            "disagreements": [asdict(each) for each in self.disagreements],
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what a report says of it: (what, how much)."""
        found = self.accuracy
        agreed = f"{found.mean:.1%} of {self.n_pairs:,} pairs ({found.low:.1%} to {found.high:.1%})"
        return (
            ("Agrees with people", agreed),
            ("Calibration error", f"{self.calibration.error:.3f}"),
            *(
                (f"Disagrees at {each.place}", f"prefers: {each.rejected}")
                for each in self.disagreements[:3]
            ),
        )

    def sheets(self) -> tuple[Sheet, ...]:
        """Return what a report shows of it: where it disagrees with people, the calibration."""
        rows = tuple(
            (each.place, f"{-each.margin:.2f}", each.chosen, each.rejected)
            for each in self.disagreements
        )
        header = ("row", "by", "people prefer", "the model prefers")
        note = "Held-out pairs, the furthest apart first."
        disagreements = Sheet("Where it disagrees with people", note, header, rows)
        return (*((disagreements,) if rows else ()), calibration_sheet(self.calibration))


def rewarded(chat: ChatModel, prepared: Prepared, confidence: float, sink: Sink) -> Rewarded | None:
    """Return how a reward model does; None where it is none, or no pairs are held out."""
    if not isinstance(chat, RewardModel) or prepared.data.validation is None:
        return None
    pairs = Items.of(prepared.data.validation)

    def tell(done: int) -> None:
        sink(Progress("held-out pairs", done, len(pairs.rows)))

    rewards = head_outputs(chat.model, chat.head, pairs.rows, tell).view(-1, 2).double().numpy()
    margins = rewards[:, 0] - rewards[:, 1]
    wrong = [at for at in np.argsort(margins, kind="stable")[:_SHOWN_PAIRS] if margins[at] < 0]
    return Rewarded(
        interval((margins > 0).astype(float).tolist(), range(len(pairs)), confidence),
        calibration(1 / (1 + np.exp(-np.abs(margins))), margins > 0),
        tuple(_disagreement(prepared, pairs, int(at), float(margins[at])) for at in wrong),
        len(pairs),
    )


def _disagreement(prepared: Prepared, pairs: Items, pair: int, margin: float) -> Disagreement:
    answers = []
    for row in (2 * pair, 2 * pair + 1):
        ids, weights = pairs.rows.row(row)
        answers.append(prepared.renderer.parse(ids[weights > 0].tolist())[0])
    name = prepared.data.name_held_out
    return Disagreement(name(pair) if name else f"pair {pair + 1}", margin, *answers)
