"""`/health`: whether the server is up, and how busy."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from tunefork.serving.context import Parts

router = APIRouter(tags=["health"])


class BaseState(BaseModel):
    """How busy a base is."""

    name: str
    running: int
    waiting: int


class Health(BaseModel):
    """The server is up."""

    status: Literal["ok"]
    bases: list[BaseState]


@router.get("/health", response_model=Health)
def health(parts: Parts) -> Any:
    """Say that the server is up, and what it does."""
    hosts = [(host.name, host.decoder.stats()) for host in parts.catalogue.backend.loaded()]
    bases = [
        {"name": name, "running": stats.running, "waiting": stats.waiting} for name, stats in hosts
    ]
    return {"status": "ok", "bases": bases}
