"""What every route is given: models, files, jobs, limits, and who asks."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from tunefork.serving.allowance import Allowance
from tunefork.serving.callers import Caller
from tunefork.serving.catalogue import Catalogue
from tunefork.serving.eval_runs import EvalRuns
from tunefork.serving.graded import Programs
from tunefork.serving.keeper import Keeper
from tunefork.serving.keyring import Keyring
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Meters
from tunefork.serving.store import Store

# Raises an error where the caller may not ask any more.
CheckAgain = Callable[[], Awaitable[Caller]]


@dataclass(frozen=True)
class Context:
    """The parts of a running server. `ending` is set once it takes nothing in any more."""

    catalogue: Catalogue
    limits: Limits
    store: Store
    keeper: Keeper
    evals: EvalRuns
    keyring: Keyring
    meters: Meters
    programs: Programs
    ending: threading.Event = field(default_factory=threading.Event)


def _context(request: Request) -> Context:
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


def _caller(request: Request) -> Caller:
    found = request.state.caller  # the guard says who
    assert isinstance(found, Caller)
    return found


Parts = Annotated[Context, Depends(_context)]
By = Annotated[Caller, Depends(_caller)]


def _owner(by: By) -> str:
    return by.owner


def _allowance(parts: Parts, by: By) -> Allowance:
    return Allowance(by, parts.limits, parts.meters)


def _check_again(request: Request) -> CheckAgain:
    found: CheckAgain = request.state.check_again
    return found


Again = Annotated[CheckAgain, Depends(_check_again)]
Owner = Annotated[str, Depends(_owner)]
Allowed = Annotated[Allowance, Depends(_allowance)]
