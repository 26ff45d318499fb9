"""`/health`: the process lives. `/ready`: it can answer. Both tell strangers nothing more."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tunefork.serving.ready import Readiness

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server is up."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether it can answer, and which of the checks say so."""

    status: Literal["ready", "not ready"]
    checks: dict[str, bool]


@router.get("/health", response_model=Health)
async def health() -> Any:
    """Say that the process lives."""
    return {"status": "ok"}


@router.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
def ready(request: Request) -> Any:
    """Say whether requests can be answered, 503 where not."""
    readiness = request.app.state.readiness
    assert isinstance(readiness, Readiness)
    checks = readiness.checks()
    is_ready = all(checks.values())
    body = {"status": "ready" if is_ready else "not ready", "checks": checks}
    return JSONResponse(body, 200 if is_ready else 503)
