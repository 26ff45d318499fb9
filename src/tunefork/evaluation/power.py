"""Many tests at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

_Name = TypeVar("_Name", bound=Hashable)


def holm(p_values: Mapping[_Name, float]) -> dict[_Name, float]:
    """Return p-values that may be read together: Holm's correction.

    An error among all of them is as unlikely as in one (Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6, 1979).
    """
    ranked = sorted(p_values, key=lambda name: p_values[name])
    found: dict[_Name, float] = {}
    largest = 0.0
    for index, name in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - index) * p_values[name]))
        found[name] = largest
    return {name: found[name] for name in p_values}
