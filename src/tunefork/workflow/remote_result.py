"""What a job on another machine made, brought into the run's folder here.

Of our own server all files come, so that the folder is a run as any other: it can be talked to,
measured, promoted. Of another one come its curve, its checkpoints' names, and the model's name.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunefork.core.errors import RemoteError
from tunefork.core.events import Noted, Sink, Warned
from tunefork.core.files import new_file, read_json, write_json, writing
from tunefork.core.hashing import hash_file
from tunefork.models import Base, find_local_base
from tunefork.workflow.claim import identity_of
from tunefork.workflow.opened import CARD
from tunefork.workflow.register import register_data, register_evaluation, register_run
from tunefork.workflow.remote_folder import RemoteFolder
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.service import Service
from tunefork.workflow.spec import Project

_NAME = re.compile(r"(model/)?[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
_LAST = "result.json"  # its presence says that the run is whole
_CURVE = "step,"


def local_base(project: Project) -> Base | None:
    """Return the project's base where it is on this machine."""
    return find_local_base(project.spec.base, relative_to=project.folder)


def bring_model(
    service: Service, folder: RemoteFolder, project: Project, job: Mapping[str, Any], sink: Sink
) -> dict[str, Any]:
    """Bring all files of a job of our own server; return what `run --json` prints.

    Raises:
        RemoteError: A file is not what the server says of it.
    """
    place = f"/fine_tuning/jobs/{job['id']}/result"
    listed = sorted(service.get(place)["data"], key=lambda each: each["name"] == _LAST)
    arriving = folder.path / "arriving"
    for each in listed:
        _fetch(service, f"{place}/{each['id']}", each, arriving)
    run, arrived = RunFolder(folder.path, ""), RunFolder(arriving, "")
    base = _same_base(project, arrived, sink)
    _make_local(arrived, run, project, base)
    with writing(folder.path):
        for each in listed:
            target = folder.path / each["name"]
            target.parent.mkdir(exist_ok=True)
            (arriving / each["name"]).replace(target)
        shutil.rmtree(arriving)
    result = {**read_json(run.path / "evaluation.json"), **_places(run)}
    result.pop("answers", None)
    result.pop("answers_by_rung", None)
    if base is None:
        sink(Noted(f"without `{project.spec.base}` here the model is not registered"))
    else:
        register_run(run, base, register_data(project, sink), sink)
        register_evaluation(run, project, result, sink)
    return {**result, **_of_job(service, job)}


def _fetch(service: Service, place: str, listed: Mapping[str, Any], arriving: Path) -> None:
    name, size = str(listed["name"]), int(listed["bytes"])
    if _NAME.fullmatch(name) is None:
        host = service.address.host
        raise RemoteError(
            f"`{host}` sends a file named `{name[:80]}`", hint="do not trust that server"
        )
    path = arriving / name
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_whole = path.is_file() and hash_file(path) == f"sha256:{listed['sha256']}"
        if not is_whole:
            service.download(place, path, size)
    if hash_file(path) != f"sha256:{listed['sha256']}":
        path.unlink()
        raise RemoteError(
            f"`{name}` did not arrive as it is there", hint="run the same command again"
        )


def _same_base(project: Project, arrived: RunFolder, sink: Sink) -> Base | None:
    """Return the base that the model was made of, where its very files are on this machine.

    By the spec's name, or by what that name stands for on the other one.
    """
    wanted = arrived.record["base"]["hash"]
    own = local_base(project)
    if own is not None and own.hash() == wanted:
        return own
    there = find_local_base(str(read_json(arrived.model / CARD)["base"]))
    if there is not None and there.hash() == wanted:
        return there
    if own is not None:
        sink(Warned(f"`{project.spec.base}` is another model there than here"))
    return None


def _make_local(arrived: RunFolder, run: RunFolder, project: Project, base: Base | None) -> None:
    """Let a run name files of this machine in the place of the other one's."""
    spec = read_json(arrived.spec_file)
    own = project.spec

    def place(name: str | None) -> str | None:
        return None if name is None else str(project.path(name))

    spec["data"] |= {
        "train": place(own.data.first),
        "validation": place(own.data.validation),
        "documents": place(own.data.documents),
        "map": project.mapping,
    }
    spec["golden"] = place(own.golden)
    spec["goal"] = own.goal
    if base is not None:
        spec["base"] = base.address
    write_json(arrived.spec_file, spec)
    record = read_json(arrived.record_file)
    record |= {"project": project.name, "folder": str(project.folder)}
    if base is not None:
        record |= {"identity": identity_of(project, base)}
    write_json(arrived.record_file, record)
    card = read_json(arrived.model / CARD)
    if base is not None:
        card["base"] = base.address
    write_json(arrived.model / CARD, {**card, "run": run.name})
    for name in ("result.json", "evaluation.json"):
        value = read_json(arrived.path / name)
        write_json(arrived.path / name, {**value, **_places(run)})


def _places(run: RunFolder) -> dict[str, Any]:
    """Return where things are here; the other machine's places mean nothing."""
    report, card = run.path / "report.html", run.path / "card.json"
    return {
        "run": run.name,
        "model": run.model_name,
        "path": str(run.model),
        "report": str(report),
        "card": str(card),
    }


def bring_names(
    service: Service, folder: RemoteFolder, project: Project, job: Mapping[str, Any], sink: Sink
) -> dict[str, Any]:
    """Bring what a server with OpenAI's API alone gives: names, and the curve as CSV."""
    files = []
    for number, file_id in enumerate(job.get("result_files") or []):
        content = service.read(f"/files/{file_id}/content")
        if content is None:
            sink(Warned(f"the result file {file_id} is not there any more"))
            continue
        path = folder.path / (f"metrics-{number + 1}.csv" if number else "metrics.csv")
        with new_file(path) as file:
            file.write(curve_of(content))
        files.append(str(path))
    checkpoints = [
        {"step": each.get("step_number"), "model": each.get("fine_tuned_model_checkpoint")}
        for each in service.pages(f"/fine_tuning/jobs/{job['id']}/checkpoints")
    ]
    return {
        **_of_job(service, job),
        "run": folder.path.name,
        "verdict": None,
        "metrics": files,
        "checkpoints": checkpoints,
        "trained_tokens": job.get("trained_tokens"),
        "hyperparameters": job.get("hyperparameters"),
    }


def _of_job(service: Service, job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "server": service.address.url,
        "job": job["id"],
        "fine_tuned_model": job.get("fine_tuned_model"),
    }


def curve_of(content: bytes) -> bytes:
    """Return a result file as CSV; some servers send it once more encoded."""
    if content.lstrip().startswith(_CURVE.encode()):
        return content
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content
    return decoded if decoded.startswith(_CURVE.encode()) else content
