"""The forgetting probe: general multiple-choice questions, answered before and after tuning.

A choice's log-probability comes from the caller: the mean over the tokens of the choice. One
half of the items may guide choices during training, the other is sealed for the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunefork.core.errors import DataError, Where, did_you_mean
from tunefork.data.read import Record
from tunefork.evaluation.lines import read_items
from tunefork.evaluation.statistics import paired_test

_KNOWN = ["answer", "choices", "group", "half", "question"]


@dataclass(frozen=True)
class ProbeItem:
    """One question with its choices; `answer` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int
    group: str
    half: Literal["select", "sealed"]


@dataclass(frozen=True)
class Forgetting:
    """How much general knowledge a tuned model lost.

    Attributes:
        base_accuracy: Share of items that the base answers right, from 0 to 1.
        tuned_accuracy: The same for the tuned model.
        drop: `base_accuracy - tuned_accuracy`: an absolute difference, positive where it forgot.
        low: Lower end of the interval of `drop`.
        high: Its upper end.
        items: How many items were answered.
        groups: How many groups they form.
    """

    base_accuracy: float
    tuned_accuracy: float
    drop: float
    low: float
    high: float
    items: int
    groups: int = 0


def load_probe(path: Path) -> list[ProbeItem]:
    """Read probe items: `{"question", "choices", "answer", "group", "half"}` on each line.

    `answer` is the index of the right choice, or its text. Without `group` an item is a group
    of its own; without `half` it is `sealed`.

    Raises:
        DataError: The file cannot be read, or lines of it cannot be used; all bad lines are
            in the one error.
    """
    return read_items(path, probe_item)


def probe_accuracy(
    items: Sequence[ProbeItem], log_probabilities: Sequence[Sequence[float]]
) -> list[bool]:
    """Say of each item whether its right choice is the likeliest.

    A tie is not right: a model that finds all choices alike knows nothing.

    Args:
        items: The items.
        log_probabilities: For each item, each choice's mean log-probability per token.
    """
    return [
        all(values[item.answer] > value for i, value in enumerate(values) if i != item.answer)
        for item, values in zip(items, log_probabilities, strict=True)
    ]


def measure_forgetting(
    items: Sequence[ProbeItem],
    base_right: Sequence[bool],
    tuned_right: Sequence[bool],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Forgetting:
    """Return the drop in accuracy on the same items, with its interval clustered by group."""
    return forgetting_of(
        [float(right) for right in base_right],
        [float(right) for right in tuned_right],
        [item.group for item in items],
        confidence=confidence,
        seed=seed,
    )


def forgetting_of(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[str],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Forgetting:
    """Return the drop of any scores from 0 to 1 on the same items."""
    paired = paired_test(base, tuned, groups, confidence=confidence, seed=seed)
    base_accuracy, tuned_accuracy = sum(base) / len(base), sum(tuned) / len(tuned)
    return Forgetting(
        base_accuracy=base_accuracy,
        tuned_accuracy=tuned_accuracy,
        drop=base_accuracy - tuned_accuracy,
        low=-paired.high,
        high=-paired.low,
        items=len(base),
        groups=paired.groups,
    )


def probe_item(record: Record) -> ProbeItem:
    """Return the item that a line holds.

    Raises:
        DataError: It holds none.
    """
    fields, where = record.fields, record.where
    for key in fields:
        if key not in _KNOWN:
            hint = did_you_mean(key, _KNOWN) or "known are " + ", ".join(_KNOWN)
            raise DataError(f"unknown field `{key}` in a probe item", where=where, hint=hint)
    question, choices = fields.get("question"), fields.get("choices")
    if not isinstance(question, str) or not question.strip():
        raise DataError("`question` must be text", where=where)
    if not isinstance(choices, list) or not all(_is_text(choice) for choice in choices):
        raise DataError("`choices` must be a list of texts", where=where)
    if len(set(choices)) != len(choices) or len(choices) < 2:
        raise DataError("`choices` must be at least two, all different", where=where)
    group = fields.get("group", question)
    if not _is_text(group):
        raise DataError("`group` must be text", where=where)
    half = fields.get("half", "sealed")
    if half not in ("select", "sealed"):
        raise DataError("`half` must be `select` or `sealed`", where=where)
    return ProbeItem(question, tuple(choices), _answer(fields, choices, where), group, half)


def _answer(fields: dict[str, Any], choices: list[str], where: Where) -> int:
    answer = fields.get("answer")
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise DataError("`answer` must be one of `choices`, or its index from 0", where=where)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
