"""The `number` grader: the last number of an answer, compared with a tolerance."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tunefork.graders.grade import Grade, Grader, pass_or_fail

# Decimals such as 0.1 have no exact binary form.
_RELATIVE_ROUNDING = 1e-9
_MINUS = "[-\N{MINUS SIGN}]"
_FRACTION_SLASH = "\N{FRACTION SLASH}"
_THIN_SPACES = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}"
_NUMBER = re.compile(
    rf"""
    (?<![\w.])
    (?P<sign>(?<![\w)\]]){_MINUS})?
    [$€£¥]?
    (?:
        (?:(?P<whole>[0-9]{{1,3}})\ )?
        (?P<above>[0-9]+)\ ?[/{_FRACTION_SLASH}]\ ?(?P<below>[0-9]+)(?![0-9/])
      | (?P<decimal>
            (?:[0-9]{{1,3}}(?:[,{_THIN_SPACES}][0-9]{{3}})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?
          | \.[0-9]+
        )
        (?P<exponent>[eE][-+]?[0-9]{{1,3}}(?![0-9]))?
    )
    (?P<percent>[ {_THIN_SPACES}]?%)?
    """,
    re.VERBOSE,
)


class Number(Grader):
    """The last number of the answer is `value`, give or take `tolerance` (same unit).

    Reads `1,234.5`, `-3`, `2e6`, `3/4`, `1 1/2`, `$12` and `45 %`; the point is the decimal
    sign and commas group thousands. A percentage also equals a `value` of at most 1 that is
    its hundredth: `45 %` is 0.45.
    """

    type: Literal["number", "numeric"] = "number"
    value: Annotated[float, Field(allow_inf_nan=False)]
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    reference_setting = "value"

    @field_validator("value", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        found = last_number(value)
        if found is None:
            raise ValueError("there is no number in it")
        return found.value

    def grade(self, answer: str) -> Grade:
        """Read the last number and compare it."""
        found = last_number(answer)
        if found is None:
            return pass_or_fail(False, "no number in the answer")
        readings = [found.value]
        if found.is_percent and abs(self.value) <= 1:
            readings.append(found.value / 100)
        allowed = max(self.tolerance, abs(self.value) * _RELATIVE_ROUNDING)
        passed = any(abs(reading - self.value) <= allowed for reading in readings)
        return pass_or_fail(passed, f"{found.text} for {self._wanted()}")

    def describe(self) -> str:
        """Name the number."""
        return f"its last number is {self._wanted()}"

    def _wanted(self) -> str:
        return f"{self.value:g}" + (f" ± {self.tolerance:g}" if self.tolerance else "")


@dataclass(frozen=True)
class FoundNumber:
    """A number as written: `45 %` has the value 45."""

    text: str
    value: float
    is_percent: bool


def numbers(text: str) -> Iterator[FoundNumber]:
    """Yield the finite numbers that a text holds, in their order."""
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            yield FoundNumber(match.group().strip(), value, match["percent"] is not None)


def last_number(text: str) -> FoundNumber | None:
    """Return the last finite number that a text holds, or None."""
    found = list(numbers(text))
    return found[-1] if found else None


def _value(match: re.Match[str]) -> float | None:
    try:
        if match["decimal"] is None:
            value = int(match["above"]) / int(match["below"]) + int(match["whole"] or 0)
        else:
            digits = re.sub(f"[,{_THIN_SPACES}]", "", match["decimal"])
            value = float(digits + (match["exponent"] or ""))
    except (ZeroDivisionError, OverflowError, ValueError):  # 1/0, or too many digits
        return None
    if not math.isfinite(value):
        return None
    return -value if match["sign"] else value
