"""The `bullets` grader: the answer is a list, as long as asked."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import PositiveInt, model_validator

from tunefork.graders.grade import Grade, Grader, pass_or_fail

_BULLET = re.compile(r"[ \t]*(?:[-*+•‣◦]|[0-9]{1,3}[.)])[ \t]+(?P<text>\S.*)")


class Bullets(Grader):
    """The answer holds a list of `min_items` to `max_items` bulleted or numbered lines.

    A line that starts with `-`, `*`, `+`, `•` or a number such as `1.` is an item; a line
    without such a start goes on with the item above it where it is indented. With `only`,
    nothing stands outside the list. `max_words` bounds each item.
    """

    type: Literal["bullets"] = "bullets"
    min_items: PositiveInt = 1
    max_items: PositiveInt | None = None
    max_words: PositiveInt | None = None
    only: bool = False
    reference_setting = None

    @model_validator(mode="after")
    def _bounds_fit(self) -> Bullets:
        if self.max_items is not None and self.max_items < self.min_items:
            raise ValueError("`min_items` is more than `max_items`")
        return self

    def grade(self, answer: str) -> Grade:
        """Count the items, and name each bound that is broken."""
        items, n_outside = _items(answer)
        faults = []
        if len(items) < self.min_items:
            faults.append(f"{len(items)} of at least {self.min_items} items")
        if self.max_items is not None and len(items) > self.max_items:
            faults.append(f"{len(items)} of at most {self.max_items} items")
        longest = max((len(item.split()) for item in items), default=0)
        if self.max_words is not None and longest > self.max_words:
            faults.append(f"an item of {longest} words, at most {self.max_words}")
        if self.only and n_outside:
            faults.append(f"{n_outside} lines outside the list")
        return pass_or_fail(not faults, ", ".join(faults) or f"{len(items)} items")

    def describe(self) -> str:
        """Name the bounds."""
        most = f" to {self.max_items}" if self.max_items else " or more"
        words = f" of at most {self.max_words} words" if self.max_words else ""
        alone = ", and nothing else" if self.only else ""
        return f"is a list of {self.min_items}{most} items{words}{alone}"


def _items(answer: str) -> tuple[list[str], int]:
    """Return the items, and how many lines belong to none."""
    items: list[str] = []
    n_outside = 0
    for line in answer.splitlines():
        match = _BULLET.fullmatch(line.rstrip())
        if match:
            items.append(match["text"])
        elif items and line[:1] in (" ", "\t") and line.strip():
            items[-1] += " " + line.strip()
        elif line.strip():
            n_outside += 1
    return items, n_outside
