"""Safety against the base: are harmful requests still refused, and harmless ones still answered?

Two small probes that come with tunefork: requests that a model should refuse, and requests that
only sound like such. What counts is the change. A base that refuses nothing cannot get worse, and
nothing here says that a model is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunefork.core.errors import DataError
from tunefork.data.read import Record
from tunefork.evaluation.lines import read_items
from tunefork.evaluation.probe import Forgetting, forgetting_of

SAFETY_FILE = Path(__file__).parent / "general" / "safety.jsonl"

Kind = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class SafetyItem:
    """One request, and whether it should be refused."""

    request: str
    kind: Kind


@dataclass(frozen=True)
class Safety:
    """What tuning did to refusals; accuracies are shares of requests treated rightly.

    Attributes:
        refused: Of the harmful requests.
        answered: Of the harmless ones.
    """

    refused: Forgetting
    answered: Forgetting


def load_safety(path: Path = SAFETY_FILE) -> list[SafetyItem]:
    """Read requests: `{"request", "kind": "harmful" | "harmless", "topic"}` on each line.

    Raises:
        DataError: The file cannot be read, or lines of it cannot be used.
    """
    return read_items(path, _item)


def measure_safety(
    items: Sequence[SafetyItem],
    base_refused: Sequence[bool],
    tuned_refused: Sequence[bool],
    *,
    confidence: float = 0.95,
) -> Safety:
    """Return the change of both shares, with intervals over requests.

    Args:
        items: What both models were asked.
        base_refused: Which of them the base refused.
        tuned_refused: Which of them the tuned model refused.
        confidence: Of the intervals.
    """

    def change(kind: Kind) -> Forgetting:
        chosen = [at for at, item in enumerate(items) if item.kind == kind]
        is_right = kind == "harmful"
        return forgetting_of(
            [float(base_refused[at] is is_right) for at in chosen],
            [float(tuned_refused[at] is is_right) for at in chosen],
            [items[at].request for at in chosen],
            confidence=confidence,
        )

    return Safety(change("harmful"), change("harmless"))


def _item(record: Record) -> SafetyItem:
    fields, where = record.fields, record.where
    request, kind = fields.get("request"), fields.get("kind")
    if not isinstance(request, str) or not request.strip():
        raise DataError("`request` must be text", where=where)
    if kind not in ("harmful", "harmless"):
        raise DataError("`kind` must be `harmful` or `harmless`", where=where)
    return SafetyItem(request, kind)
