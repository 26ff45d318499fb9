"""What the life cycle tells the registry.

It never stands in the way: where it cannot be written, a run goes on with a warning, and the same
command with `--resume` writes it down later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunefork.core.errors import TuneforkError
from tunefork.core.events import Sink, Warned
from tunefork.core.files import read_json
from tunefork.models import Base
from tunefork.registry import (
    Registry,
    Seen,
    SeenBase,
    SeenRun,
    add_base,
    add_data,
    add_evaluation,
    add_run,
    files_below,
    find_licence,
    has_registry,
    known_model,
    knows_base,
    lineage,
    look_at,
    look_at_data,
    open_registry,
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
    "report.json",
    "report.md",
)
_OWN = "model"  # the score of a model that was measured alone


def register_data(project: Project, sink: Sink) -> dict[str, str]:
    """Write a project's data down as it is now; return the version of each file by its role.

    Before training, so that the files may be edited while it lasts.
    """
    versions: dict[str, str] = {}
    data = project.spec.data
    with going_on(sink), open_registry() as registry:
        names = list(data.sources)
        training = zip(training_roles(len(names)), names, strict=True)
        for role, name in (*training, ("validation", data.validation)):
            version = add_file(registry, project, name)
            if version is not None:
                versions[role] = version
    return versions


def training_roles(count: int) -> list[str]:
    """Return what the files that are trained on are called, one alone or several."""
    return ["train", *(f"train {number}" for number in range(2, count + 1))]


def register_run(run: RunFolder, base: Base, data: dict[str, str], sink: Sink) -> None:
    """Write a finished run down, and the model that it made."""
    with going_on(sink), open_registry() as registry:
        _add_run(registry, run, base, data)


def register_evaluation(
    run: RunFolder, project: Project, result: dict[str, Any], sink: Sink
) -> None:
    """Write down what was measured of a registered run's model, and the report."""
    with going_on(sink), open_registry() as registry:
        golden = add_file(registry, project, project.spec.golden)
        seen = _look_at_run(run)
        with registry.writing() as session:
            model = add_run(session, registry.objects, seen, {})
            add_evaluation(session, model, result, golden)


def register_derived(source: Path, out: Path, sink: Sink) -> dict[str, str]:
    """Write a new file down as a version whose parent is the data that it was made from.

    Returns:
        The versions `before` and `after`; nothing where they could not be written.
    """
    with going_on(sink, "the new file is written all the same"), open_registry() as registry:
        seen = look_at_data(source), look_at_data(out)
        names = [each.path.resolve().parent.name for each in seen]
        with registry.writing() as session:
            before = add_data(session, registry.objects, names[0], seen[0])
            after = add_data(session, registry.objects, names[1], seen[1], made_from=before)
            return {"before": before, "after": after}
    return {}


def register_score(name: str, golden: Path, score: dict[str, float], sink: Sink) -> None:
    """Write down how a model did on golden questions, where the registry knows the model.

    Args:
        name: As `open_model` takes it.
        golden: The file of questions.
        score: `score`, `low` and `high`.
        sink: Told where it cannot be written.
    """
    if not has_registry():
        return
    result: dict[str, Any] = {
        "verdict": None,
        "reasons": [],
        "scores": {_OWN: score},
        "gain": None,
        "forgetting": None,
    }
    with going_on(sink, "run it again"), open_registry() as registry:
        with registry.reading() as session:
            model = known_model(session, name)
        if model is not None:
            version = _add_path(registry, golden.resolve().parent.name, golden)
            with registry.writing() as session:
                add_evaluation(session, model.name, result, version, rung=_OWN)


def lineage_of(run: RunFolder) -> dict[str, Any] | None:
    """Return where a run's model came from; None where it is not written down, as was told."""
    with (
        contextlib.suppress(TuneforkError),
        open_registry() as registry,
        registry.reading() as session,
    ):
        return lineage(session, str(run.path))
    return None


def add_file(registry: Registry, project: Project, name: str | None) -> str | None:
    """Write a data file down; a pipe, which can be read only once, is none."""
    if name is None or not (path := project.path(name)).exists():
        return None
    return _add_path(registry, project.name, path)


def _add_path(registry: Registry, project: str, path: Path) -> str | None:
    if not (path.is_file() or path.is_dir()):
        return None
    seen = look_at_data(path)
    with registry.writing() as session:
        return add_data(session, registry.objects, project, seen)


def _add_run(registry: Registry, run: RunFolder, base: Base, data: dict[str, str]) -> None:
    base_hash = base.hash()
    with registry.reading() as session:
        is_known = knows_base(session, base_hash, base.address)
    # A large base takes long to look at, and is no other than it was.
    seen_base = None if is_known else look_at_base(base)
    seen = _look_at_run(run)
    with registry.writing() as session:
        if seen_base is not None:
            add_base(session, registry.objects, seen_base)
        add_run(session, registry.objects, seen, data)


def look_at_base(base: Base) -> SeenBase:
    """Look at a base: its files, where it came from, its licence."""
    is_from_hub = base.folder.parent.name == "snapshots"
    hashes = base.file_hashes()
    return SeenBase(
        name=base.name,
        address=base.address,
        hash=base.hash(),
        revision=base.folder.name if is_from_hub else None,
        licence=find_licence(base.folder),
        files={
            path.name: Seen(path.absolute(), path.stat().st_size, hashes[path.name])
            for path in base.files
        },
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
def going_on(sink: Sink, remedy: str = "run again with `--resume` to do so") -> Iterator[None]:
    """Turn what is wrong with the registry into a warning."""
    try:
        yield
    except (TuneforkError, OSError) as error:
        sink(Warned(f"not written into the registry: {error}; {remedy}"))
