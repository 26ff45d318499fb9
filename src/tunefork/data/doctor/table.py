"""All checks. To add one: write `check(context) -> findings`, and name it here with its codes.

`docs/checks.md` says what each code means; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tunefork.data.doctor import (
    answers,
    balance,
    duplicates,
    fit,
    language,
    leaks,
    neighbours,
    private,
    shape,
    text,
)
from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding


class Check(NamedTuple):
    """One check.

    Attributes:
        codes: What it can find; `secret.*` stands for all that begin so.
        run: Finds it.
        cost: Its share of the time, for the bar; the cheapest have 1.
    """

    codes: tuple[str, ...]
    run: Callable[[Context], Iterable[Finding]]
    cost: int = 1


CHECKS: tuple[Check, ...] = (
    Check(("unreadable",), fit.unreadable),
    Check(("empty",), answers.empty),
    Check(("template",), fit.template),
    Check(("leak.validation",), leaks.validation, 2),
    Check(("leak.golden",), leaks.golden, 2),
    Check(("encoding", "encoding.lost"), text.encoding, 2),
    Check(
        (
            "pii.card",
            "pii.email",
            "pii.iban",
            "pii.ip",
            "pii.national_id",
            "pii.phone",
            "pii.url",
            "secret.*",
        ),
        private.private,
        8,
    ),
    Check(("duplicate.exact",), duplicates.exact, 4),
    Check(("duplicate.near",), duplicates.near, 24),
    Check(("conflict", "conflict.near", "one_to_many"), duplicates.conflict, 4),
    Check(("label.suspect",), neighbours.label_suspect, 8),
    Check(("truncated",), answers.truncated, 2),
    Check(("too_long",), fit.too_long),
    Check(("refusal",), answers.refusal, 2),
    Check(("format.inconsistent",), shape.inconsistent),
    Check(("language.mixed",), language.mixed, 6),
    Check(("markup",), text.markup),
    Check(("whitespace",), text.whitespace, 2),
    Check(("imbalance",), balance.imbalance),
    Check(("too_few",), balance.too_few),
    Check(("unrepresentative",), neighbours.unrepresentative, 4),
)
