"""Who asks for an answer, and how much of it there may be."""

from __future__ import annotations

from dataclasses import dataclass

from tunefork.serving.callers import Caller
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Charge, Meters


@dataclass(frozen=True)
class Allowance:
    """A caller, with what limits the answers to one."""

    caller: Caller
    limits: Limits
    meters: Meters

    def reserve(self, most: int, least: int) -> Charge:
        """Reserve tokens; see `Meters.reserve`."""
        return self.meters.reserve(self.caller.payers, most, least)
