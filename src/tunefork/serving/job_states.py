"""The states of a job, and in which of them what may be asked of it."""

from __future__ import annotations

from typing import Literal

Wish = Literal["cancel", "pause", "resume"]
ENDED = ("succeeded", "failed", "cancelled")
OVER = (*ENDED, "paused")  # nothing happens any more by itself
STATES = ("validating_files", "queued", "running", "paused", *ENDED)
MAY: dict[Wish, tuple[str, ...]] = {
    "cancel": ("validating_files", "queued", "running", "paused"),
    "pause": ("queued", "running"),
    "resume": ("paused",),
}
GOALS: dict[Wish, str] = {"cancel": "cancelled", "pause": "paused"}  # what it becomes in a while


def refusal(state: str, wish: Wish) -> str:
    """Return why a job in a state cannot be told to do something."""
    return f"The job is {state}; what can be told to {wish} is {' or '.join(MAY[wish])}."
