"""Many requests at once on one base, each with an adapter of its own; `Engine` is the entry.

`Sampling` and `Request` say what is wanted, a `Ticket` brings the answer piece by piece, and an
`AdapterPool` holds the adapters. See docs/engine.md.
"""

from tunefork.inference.engine.constraint import (
    Constraint,
    choice,
    json_object,
    json_schema,
    regex,
)
from tunefork.inference.engine.engine import Engine
from tunefork.inference.engine.pool import AdapterPool
from tunefork.inference.engine.request import (
    Alternative,
    Piece,
    Request,
    Sampling,
    TokenLogProb,
    Usage,
)
from tunefork.inference.engine.settings import EngineSettings, EngineStats
from tunefork.inference.engine.ticket import Ticket

__all__ = [
    "AdapterPool",
    "Alternative",
    "Constraint",
    "Engine",
    "EngineSettings",
    "EngineStats",
    "Piece",
    "Request",
    "Sampling",
    "Ticket",
    "TokenLogProb",
    "Usage",
    "choice",
    "json_object",
    "json_schema",
    "regex",
]
