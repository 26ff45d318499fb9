"""How the threads that share the work of one step wait for each other."""

from __future__ import annotations

import os

_CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_SPINS = "20000"  # a fifteenth of the default; with a twentieth of that a quiet machine is slower


def short_waits() -> dict[str, str]:
    """Return the environment in which threads that wait go to sleep soon (GNU's OpenMP).

    Nothing where the user has chosen how they wait. It has to be set before torch is loaded.

    A thread that is done spins until the others are. By default it does so for milliseconds, and
    where other programs run it takes the processor from the very thread that it waits for: a step
    of a small model then took ten times as long.
    """
    return {} if any(name in os.environ for name in _CHOICES) else {_CHOICES[0]: _SPINS}
