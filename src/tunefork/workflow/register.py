"""What the life cycle tells the registry, and the models that it asks it for.

The registry never stands in the way of a run: where it cannot be written, the run goes on with a
warning, and the same command with `--resume` writes it down later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunefork.core.errors import ModelError, TuneforkError
from tunefork.core.events import Sink, Warned
from tunefork.core.files import home, new_folder, read_json
from tunefork.models import Base
from tunefork.registry import (
    Registry,
    SeenBase,
    SeenRun,
    add_base,
    add_data,
    add_evaluation,
    add_run,
    files_below,
    files_of,
    find_licence,
    find_model,
    has_registry,
    knows_base,
    look_at,
    look_at_data,
    model_names,
    open_registry,
    write_folder,
)
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project

_RUN_FILES = (
    "record.json",
    "spec.json",
    "result.json",
    "metrics.jsonl",
    "evaluation.json",
    "report.html",
)


def register_data(project: Project, sink: Sink) -> dict[str, str]:
    """Write a project's data down as it is now; return the version of each file by its role.

    Before training, so that the files may be edited while it lasts.
    """
    versions: dict[str, str] = {}
    data = project.spec.data
    with _going_on(sink), open_registry() as registry:
        for role, name in (("train", data.train), ("validation", data.validation)):
            version = _add_file(registry, project, name)
            if version is not None:
                versions[role] = version
    return versions


def register_run(run: RunFolder, base: Base, data: dict[str, str], sink: Sink) -> None:
    """Write a finished run down, and the model that it made."""
    with _going_on(sink), open_registry() as registry:
        _add_run(registry, run, base, data)


def register_evaluation(
    run: RunFolder, project: Project, result: dict[str, Any], sink: Sink
) -> None:
    """Write down what was measured of a registered run's model, and the report."""
    with _going_on(sink), open_registry() as registry:
        golden = _add_file(registry, project, project.spec.golden)
        seen = _look_at_run(run)
        with registry.writing() as session:
            model = add_run(session, registry.objects, seen, {})
            add_evaluation(session, model, result, golden)


def registered_folder(name: str) -> Path | None:
    """Return the folder of a registered model by its name or alias; None where there is none.

    Where the run's folder is gone, the kept copies are unpacked.

    Raises:
        ModelError: It has none, or it is gone.
    """
    if not has_registry():
        return None
    with open_registry() as registry, registry.reading() as session:
        if name not in model_names(session):
            return None
        model = find_model(session, name)
        if model.weights_hash is None:
            raise ModelError(
                f"`{name}` has no weights of its own", hint="name a tuned model, or its base"
            )
        files = files_of(session, model.weights_hash)
        places = [Path(file.path) for file, _ in files]
        if all(place.is_file() for place in places):
            return places[0].parents[files[0][0].name.count("/")]
        if not all(blob.is_kept for _, blob in files):
            raise ModelError(
                f"the files of `{name}` are gone, and were too large to keep a copy of",
                where=places[0].parent,
                hint="bring the folder back, or replay its run",
            )
        target = home() / "cache" / "models" / model.weights_hash.removeprefix("sha256:")
        if not target.is_dir():
            with new_folder(target) as folder:
                write_folder(session, registry.objects, model.weights_hash, folder)
        return target


def registered_names() -> list[str]:
    """Return the names and aliases of all registered models."""
    if not has_registry():
        return []
    with open_registry() as registry, registry.reading() as session:
        return model_names(session)


def _add_file(registry: Registry, project: Project, name: str | None) -> str | None:
    """Write a data file down; a pipe, which can be read only once, is none."""
    if name is None or not (path := project.path(name)).exists():
        return None
    if not (path.is_file() or path.is_dir()):
        return None
    seen = look_at_data(path)
    with registry.writing() as session:
        return add_data(session, registry.objects, project.name, seen)


def _add_run(registry: Registry, run: RunFolder, base: Base, data: dict[str, str]) -> None:
    base_hash = base.hash()
    with registry.reading() as session:
        is_known = knows_base(session, base_hash, base.address)
    # A large base takes long to look at, and is no other than it was.
    seen_base = None if is_known else _look_at_base(base, base_hash)
    seen = _look_at_run(run)
    with registry.writing() as session:
        if seen_base is not None:
            add_base(session, registry.objects, seen_base)
        add_run(session, registry.objects, seen, data)


def _look_at_base(base: Base, base_hash: str) -> SeenBase:
    is_from_hub = base.folder.parent.name == "snapshots"
    return SeenBase(
        name=base.name,
        address=base.address,
        hash=base_hash,
        revision=base.folder.name if is_from_hub else None,
        licence=find_licence(base.folder),
        files=look_at({path.name: path for path in base.files}, keep=False),
    )


def _look_at_run(run: RunFolder) -> SeenRun:
    files = {name: run.path / name for name in _RUN_FILES if (run.path / name).is_file()}
    return SeenRun(
        name=run.name,
        path=run.path.absolute(),
        spec=read_json(run.spec_file),
        record=run.record,
        result=run.result or {},
        files=look_at(files, keep=True),
        weights=look_at(files_below(run.model), keep=True),
    )


@contextlib.contextmanager
def _going_on(sink: Sink) -> Iterator[None]:
    """Turn what is wrong with the registry into a warning."""
    try:
        yield
    except (TuneforkError, OSError) as error:
        sink(Warned(f"not written into the registry: {error}; run again with `--resume` to do so"))
