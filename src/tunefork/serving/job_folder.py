"""A job's folder: what the server and the worker tell each other, by files alone.

job.json       what to do; written once, by the server
events.jsonl   what happened, one event a line, appended to by both
state.json     how the worker ended, in its own words; whole or not there
log.txt        what the worker printed
train.jsonl …  the data, as it was when the job was made
ID/            the run, as every training leaves it
snapshots/     the model at some steps, each an adapter of its own

So a worker needs no server, and a server that comes back finds out what happened meanwhile.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunefork.core.files import read_json, write_json, writing

Level = Literal["info", "warn", "error"]
End = Literal["validated", "succeeded", "failed", "paused"]
TRAINING, VALIDATION, GOLDEN = "train.jsonl", "validation.jsonl", "golden.jsonl"


@dataclass(frozen=True)
class JobFolder:
    """One job's folder."""

    path: Path

    @property
    def request(self) -> dict[str, Any]:
        """What to do."""
        return read_json(self.path / "job.json")

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.path / "log.txt"

    @property
    def run(self) -> Path:
        """Where the run is; the registry knows it by this name."""
        return self.path / self.path.name

    @property
    def snapshots(self) -> Path:
        """Where the model at some steps is kept."""
        return self.path / "snapshots"

    def write_end(self, end: End, **more: Any) -> None:
        """Say how it ended; the worker's last act."""
        write_json(self.path / "state.json", {"end": end, "at": int(time.time()), **more})

    def end(self) -> dict[str, Any] | None:
        """Return how the worker ended; None while it has not, or could not say."""
        path = self.path / "state.json"
        return read_json(path) if path.is_file() else None

    def clear_end(self) -> None:
        """Forget how the worker before ended."""
        with writing(self.path):
            (self.path / "state.json").unlink(missing_ok=True)

    def add_event(
        self, message: str, level: Level = "info", data: Mapping[str, Any] | None = None
    ) -> None:
        """Write an event down."""
        line = {
            "id": "ftevent-" + secrets.token_hex(12),
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "metrics" if data is not None and "step" in data else "message",
            "data": dict(data) if data is not None else None,
        }
        path = self.path / "events.jsonl"
        with writing(path), path.open("ab") as file:
            # A kill may have cut the last line short: what follows begins a new one.
            file.write(b"\n" + json.dumps(line).encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """Return all events, the oldest first."""
        return [event for event, _ in self.events_from(0)]

    def events_from(self, place: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the events behind a place in the file, each with the place behind it."""
        path = self.path / "events.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                place += len(line)
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict):
                    yield found, place
