"""What every route is given: models, files, jobs, limits, and who asks."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from tunefork.serving.catalogue import Catalogue
from tunefork.serving.eval_runs import EvalRuns
from tunefork.serving.guard import OWNER
from tunefork.serving.keeper import Keeper
from tunefork.serving.limits import Limits
from tunefork.serving.store import Store


@dataclass(frozen=True)
class Context:
    """The parts of a running server. `ending` is set once it takes nothing in any more."""

    catalogue: Catalogue
    limits: Limits
    store: Store
    keeper: Keeper
    evals: EvalRuns
    ending: threading.Event = field(default_factory=threading.Event)


def _context(request: Request) -> Context:
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


def _owner() -> str:
    return OWNER


Parts = Annotated[Context, Depends(_context)]
Owner = Annotated[str, Depends(_owner)]
