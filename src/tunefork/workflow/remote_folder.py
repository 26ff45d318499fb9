"""What a run on another machine remembers here, so that the same command goes on with the same job.

remote.json    the server, the files that were sent, the job, the last event that was told
sent/          the rows as they were sent

They lie in the run's folder, beside what is brought back: see `runs`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import RunError
from tunefork.core.files import home, read_json, write_json
from tunefork.core.hashing import hash_file, hash_json
from tunefork.workflow.claim import held
from tunefork.workflow.spec import Project

_STATE = "remote.json"


@dataclass(frozen=True)
class RemoteFolder:
    """The folder of one run on another machine."""

    path: Path
    identity: str

    @property
    def state(self) -> dict[str, Any]:
        """What is remembered; nothing before anything was sent."""
        path = self.path / _STATE
        return read_json(path) if path.is_file() else {"identity": self.identity}

    def remember(self, **more: Any) -> None:
        """Remember more."""
        write_json(self.path / _STATE, {**self.state, **more})

    def forget(self, *names: str) -> None:
        """Remember some of it no longer."""
        kept = {name: value for name, value in self.state.items() if name not in names}
        write_json(self.path / _STATE, kept)

    @property
    def sent(self) -> Path:
        """Where the rows lie as they are sent."""
        return self.path / "sent"


@contextlib.contextmanager
def remote_folder(project: Project, url: str, out: Path | None) -> Iterator[RemoteFolder]:
    """Give the folder of a project's run at a server, held until it is let go.

    A run is known by the server, the spec and what is in its files.

    Raises:
        RunError: Another process uses it, or it holds something else.
    """
    identity = _identity(project, url)
    name = f"{project.name}-{identity.split(':')[1][:8]}"
    folder = RemoteFolder((out or home() / "runs" / name).resolve(), identity)
    with held(folder.path):
        if folder.state.get("identity") != identity:
            raise RunError(
                "the folder holds a run of another spec, other data or another server",
                where=folder.path,
                hint="name another folder with `--out`",
            )
        is_other = not (folder.path / _STATE).is_file() and any(
            path.name != ".lock" for path in folder.path.iterdir()
        )
        if is_other:
            raise RunError(
                "the folder is not empty",
                where=folder.path,
                hint="name a new folder with `--out`",
            )
        folder.remember()
        yield folder


def _identity(project: Project, url: str) -> str:
    spec = project.spec
    names = [*spec.data.sources, spec.data.validation, spec.golden]
    paths = [project.path(name) for name in names if name is not None]
    hashes = [hash_file(path) if path.is_file() else None for path in paths]
    return hash_json([url, spec.model_dump(mode="json"), hashes])
