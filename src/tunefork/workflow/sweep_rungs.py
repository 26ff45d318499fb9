"""Successive halving: all candidates train a little, the better half goes on, and so forth.

Jamieson & Talwalkar 2016 (arXiv 1502.07943). The resource is optimizer steps; a candidate's state
is kept, so that it goes on where it stopped. Rungs end at a validation that a candidate's whole
run has anyway, and its schedule is that of the whole run: who reaches the end has trained to the
bits of a run that was never part of a sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunefork.training import TrainSettings

ETA = 2  # one of so many goes on


@dataclass(frozen=True)
class Standing:
    """How far a candidate has come."""

    step: int
    loss: float | None  # lowest held-out loss so far, nats per token; None where there is none
    seconds: float  # of training, in all
    ended: str  # as in `TrainResult.reason`, or `failed`
    note: str = ""  # why it failed

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to train."""
        return self.ended != "paused"


def n_rungs(n_candidates: int) -> int:
    """Return how many times candidates are compared; one is left at the last."""
    return 1 + math.ceil(math.log(n_candidates, ETA) - 1e-9)


def last_step(rung: int, rungs: int, steps: int, settings: TrainSettings) -> int | None:
    """Return the step at which a candidate stops in a rung (from 0), None in the last.

    Args:
        rung: Which one.
        rungs: How many there are.
        steps: Of the candidate's whole run.
        settings: Its own.
    """
    if rung == rungs - 1:
        return None
    every = settings.validate_every
    wanted: float = steps / ETA ** (rungs - 1 - rung)
    return max(1, math.ceil(wanted / every - 1e-9)) * every


def ranked(standings: Mapping[int, Standing]) -> list[int]:
    """Return the candidates' numbers, the lowest held-out loss first; failed ones last."""
    return sorted(standings, key=lambda number: (_rank(standings[number]), number))


def survivors(standings: Mapping[int, Standing], rung: int, n_candidates: int) -> list[int]:
    """Return the numbers of those that go on after a rung, in order."""
    left = math.ceil(n_candidates / ETA ** (rung + 1))
    return sorted(
        number for number in ranked(standings)[:left] if standings[number].ended != "failed"
    )


def taking_part(rungs: Sequence[Mapping[int, Standing]], rung: int, n_candidates: int) -> list[int]:
    """Return the numbers of those that train in a rung, given what came before it."""
    if rung == 0:
        return list(range(n_candidates))
    return survivors(rungs[rung - 1], rung - 1, n_candidates)


def _rank(standing: Standing) -> float:
    return math.inf if standing.loss is None or math.isnan(standing.loss) else standing.loss
