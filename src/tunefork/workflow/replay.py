"""`replay`: train a run again from its stored spec and data, and compare what comes out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunefork.core.errors import ModelError, RunError
from tunefork.core.events import Sink
from tunefork.core.hashing import hash_file
from tunefork.data import Prompts
from tunefork.models import find_base
from tunefork.registry import (
    Model,
    Registry,
    Run,
    files_below,
    files_of,
    find_run,
    open_registry,
    run_data,
    run_spec,
    write_folder,
)
from tunefork.workflow.opened import CARD
from tunefork.workflow.register import training_roles
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.train import Trained, train_project


@dataclass(frozen=True)
class _Stored:
    """What the registry knows of a run, with its data written out to be read."""

    run: Run
    project: Project
    weights: dict[str, str]  # hash of each file of the result


def replay(name: str, *, out: Path | None = None, sink: Sink) -> dict[str, Any]:
    """Train a registered run again, and say whether the result is the same, bit for bit.

    Args:
        name: The run's name or folder.
        out: A new folder that keeps data and result; otherwise nothing is left of it.
        sink: Receives what happens.

    Raises:
        InputError: There is no such run, or its data or base are not as they were.
    """
    with _folder(out) as folder, open_registry() as registry:
        stored = _load(registry, name, folder)
        trained = train_project(
            stored.project,
            out=folder / "run",
            is_registered=False,
            kept_out=Prompts(np.array(stored.run.result.get("kept_out", []), np.uint64)),
            sink=sink,
        )
        found = files_below(trained.run.model)
        now = {each: hash_file(path) for each, path in found.items() if each != CARD}
        files = [
            {"name": each, "then": stored.weights.get(each), "now": now.get(each)}
            for each in sorted(stored.weights.keys() | now.keys())
        ]
        return {
            "run": stored.run.name,
            "matches": now == stored.weights,
            "files": files,
            "differences": _differences(stored.run, trained),
            "path": str(trained.run.model) if out is not None else None,
            "seconds": trained.result["seconds"],
        }


def _load(registry: Registry, name: str, folder: Path) -> _Stored:
    with registry.reading() as session:
        run = find_run(session, name)
        model = session.get_one(Model, run.name)
        if model.weights_hash is None:
            raise RunError(f"the run `{run.name}` has no result", hint="train it first")
        weights = {
            file.name: blob.hash
            for file, blob in files_of(session, model.weights_hash)
            if file.name != CARD  # names the run, which is another now
        }
        spec = run_spec(session, run)
        data = dict(spec["data"])
        found: dict[str, str] = {}
        for version in run_data(session, run):
            target = folder / "data" / version["role"]
            written = write_folder(session, registry.objects, version["hash"], target)
            only = next(iter(written.values()))
            found[version["role"]] = str(only if len(written) == 1 else target)
        shares = None if isinstance(data["train"], str) else list(data["train"].values())
        roles = training_roles(1 if shares is None else len(shares))
        if not set(roles) <= found.keys():
            raise RunError(
                f"the data of `{run.name}` is not in the registry",
                hint="it came from no file, or could not be written down then",
            )
        places = [found.pop(role) for role in roles]
        mixed = places[0] if shares is None else dict(zip(places, shares, strict=True))
        data |= {**found, "train": mixed}
    project = Project(
        spec=Spec.model_validate({**spec, "data": data}), folder=folder, name=run.project
    )
    base = find_base(project.spec.base)
    if base.hash() != run.base_hash:
        raise ModelError(
            f"the base `{base.name}` is another than it was",
            where=base.folder,
            hint="bring back its files as they were; `tunefork verify` names them",
        )
    return _Stored(run, project, weights)


def _differences(run: Run, trained: Trained) -> list[str]:
    """Say what else was not as it was then: the reasons for other bits."""
    record, result = trained.run.record, trained.run.result or {}
    then = {**run.environment, **run.result["training_settings"], "code": run.code_hash}
    now = {
        **record["environment"],
        **result["training_settings"],
        "code": record["code_hash"],
    }
    return [
        f"{key} was {then.get(key)} and is {value}"
        for key, value in now.items()
        if then.get(key) != value
    ]


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is None:
        with tempfile.TemporaryDirectory(prefix="tunefork-replay-") as name:
            yield Path(name)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError("the folder is not empty", where=out, hint="name a new folder with `--out`")
    yield out.absolute()
