"""What a sweep writes into its folder while it lasts, and reads again to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tunefork.core.files import read_json, write_json
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project
from tunefork.workflow.sweep_grid import Axis
from tunefork.workflow.sweep_rungs import Standing

Rungs = list[dict[int, Standing]]  # by the candidate's number


def write_record(
    folder: RunFolder, project: Project, prepared: Prepared, axes: Sequence[Axis]
) -> None:
    """Write what a sweep is made of."""
    record = {
        "identity": folder.identity,
        "project": project.name,
        "folder": str(project.folder),
        "date": project.spec.date.isoformat() if project.spec.date else None,
        "data_hash": prepared.data_hash(),
        "kept_out": prepared.kept_out.hashes.tolist(),
        "over": {axis.key: list(axis.values) for axis in axes},
    }
    write_json(folder.record_file, record)


def read_result(folder: RunFolder) -> dict[str, Any] | None:
    """Return what a finished sweep found; None where it is not finished."""
    path = folder.path / "sweep.json"
    found = read_json(path) if path.is_file() else {}
    return found if "winner" in found else None


def read_rungs(folder: RunFolder) -> Rungs:
    """Return the standings that were written so far."""
    path = folder.path / "sweep.json"
    rungs = read_json(path)["rungs"] if path.is_file() else []
    return [{int(n): Standing(**values) for n, values in rung.items()} for rung in rungs]


def write_rungs(folder: RunFolder, rungs: Rungs) -> None:
    """Write the standings so far."""
    plain = [{str(n): asdict(standing) for n, standing in rung.items()} for rung in rungs]
    write_json(folder.path / "sweep.json", {"rungs": plain})
