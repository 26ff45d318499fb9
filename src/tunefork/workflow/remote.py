"""`run --on`: the same life cycle on another machine, followed from here, its result brought back.

The other machine is any server that speaks OpenAI's fine-tuning API. Ours takes the spec as it
stands, and gives the model's files; another gives a model's name, its curve and its checkpoints.
Entry point: `run_remote`.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, RemoteError
from tunefork.core.events import Noted, Progress, Sink, Warned
from tunefork.core.hashing import hash_file
from tunefork.workflow.check import Against, check
from tunefork.workflow.learnable import check_learnable, stopping_findings
from tunefork.workflow.remote_folder import RemoteFolder, remote_folder
from tunefork.workflow.remote_project import Sending, check_sendable, to_openai, to_ours
from tunefork.workflow.remote_result import bring_model, bring_names, local_base
from tunefork.workflow.service import Address, Service, Unheard
from tunefork.workflow.spec import Project

_SOONEST_S, _LATEST_S = 0.2, 3.0  # between two looks at the job
_JOBS = "/fine_tuning/jobs"
_LABEL = "tunefork_run"  # the job's metadata: by it a job is found again that was made unheard
_ENDED = ("succeeded", "failed", "cancelled")


def run_remote(
    project: Project, address: Address, *, out: Path | None = None, sink: Sink
) -> dict[str, Any]:
    """Send a project's job, or go on following it; return what `run --json` prints.

    Args:
        project: What to train.
        address: The server.
        out: The folder to bring the result to; by default one under the home folder.
        sink: Receives what happens.

    Raises:
        InputError: Spec or rows cannot be used; nothing was sent then.
        RemoteError: The server refuses it, the job failed, or it is not there.
    """
    with (
        remote_folder(project, address.url, out) as folder,
        contextlib.closing(Service(address, sink)) as service,
    ):
        state = folder.state
        if "result" in state:
            sink(Noted(f"brought back already: {folder.path}"))
            found: dict[str, Any] = state["result"]
            return found
        if "job" not in state:
            check_sendable(project)
            _check(project, sink)
            state = _send(project, service, folder, sink)
        else:
            sink(Noted(f"Going on with {state['job']} at {address.host}"))
        job = _follow(service, folder, state["job"], sink)
        is_ours = bool(state["is_ours"])
        project = _dated(project, state["date"])
        bring = bring_model if is_ours else bring_names
        result = bring(service, folder, project, job, sink)
        folder.remember(result=result)
        return result


def _check(project: Project, sink: Sink) -> None:
    """Look at the data as `tunefork check` does, before anything is sent.

    Raises:
        DataError: Something in it would spoil the model.
    """
    spec = project.spec
    train = project.path(spec.data.first)
    base = local_base(project)
    against = Against(
        validation=project.path(spec.data.validation) if spec.data.validation else None,
        golden=project.path(spec.golden) if spec.golden else None,
        base=base.address if base is not None else None,
    )
    checked = check(train, mapping=project.mapping, against=against, sink=sink)
    stopping = stopping_findings(checked.findings)
    for found in checked.findings:
        if found not in stopping:
            sink(Warned(found.message))
    errors = [found.message for found in stopping]
    if errors:
        raise DataError(
            errors[0],
            where=train,
            details=tuple(errors[1:]),
            hint=f"nothing was sent; `tunefork check {train}` tells all of it",
        )
    check_learnable(train, project.mapping, spec.objective.name)


def _dated(project: Project, date: str) -> Project:
    day = datetime.date.fromisoformat(date)
    return project.model_copy(update={"spec": project.spec.model_copy(update={"date": day})})


def _send(project: Project, service: Service, folder: RemoteFolder, sink: Sink) -> dict[str, Any]:
    """Send rows and job, and remember each as soon as the server has it."""
    found = service.find("/tunefork")
    is_ours = found is not None and "settings" in found.get("extensions", ())
    date = folder.state.get("date") or (project.spec.date or datetime.date.today()).isoformat()
    label = folder.state.get("label") or secrets.token_hex(16)
    folder.remember(is_ours=is_ours, date=date, url=service.address.url, label=label)
    # What templates take for today is the day on which it was sent.
    dated = _dated(project, date)
    sending = (to_ours if is_ours else to_openai)(dated, folder.sent, sink)
    files = {param: _file(service, folder, param, *given) for param, given in sending.files.items()}
    try:
        job = _known_job(service, folder) or _make_job(service, folder, sending, files)
    except Unheard:  # it may be there
        job = _known_job(service, folder) or _make_job(service, folder, sending, files)
    folder.remember(job=job["id"])
    sink(Noted(f"{job['id']} at {service.address.host}; it goes on there if this ends here"))
    return folder.state


def _file(service: Service, folder: RemoteFolder, param: str, path: Path, purpose: str) -> str:
    """Return the id of a file that the server has: remembered, found there, or sent now."""
    known: dict[str, str] = folder.state.get("files", {})
    digest = hash_file(path).removeprefix("sha256:")
    name = f"{param.removesuffix('_file')}-{digest[:16]}.jsonl"
    if name in known:
        return known[name]
    size = path.stat().st_size
    there = next(
        (
            each["id"]
            for each in service.pages("/files", purpose=purpose)
            if each.get("filename") == name and each.get("bytes") == size
        ),
        None,
    )
    file_id = str(there or service.upload(path, name, purpose)["id"])
    folder.remember(files={**known, name: file_id})
    return file_id


def _known_job(service: Service, folder: RemoteFolder) -> dict[str, Any] | None:
    """Return the job that was made, although its id never arrived."""
    label = folder.state["label"]
    for job in service.pages(_JOBS, **{f"metadata[{_LABEL}]": label}):
        if (job.get("metadata") or {}).get(_LABEL) == label:
            return job
    return None


def _make_job(
    service: Service, folder: RemoteFolder, sending: Sending, files: Mapping[str, str]
) -> dict[str, Any]:
    label = folder.state["label"]
    body = {**sending.body, **files, "suffix": _suffix(folder), "metadata": {_LABEL: label}}
    return service.post_once(_JOBS, body)


def _suffix(folder: RemoteFolder) -> str:
    """Return what the model's name there ends with: the run's name."""
    kept = "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in folder.path.name
    )
    return kept[:40]


def _follow(service: Service, folder: RemoteFolder, job_id: str, sink: Sink) -> dict[str, Any]:
    """Tell what happens until the job has ended well.

    Raises:
        RemoteError: It failed, was cancelled, or is not there any more.
    """
    pause_s = _SOONEST_S
    while True:
        job = service.get(f"{_JOBS}/{job_id}")
        n_new = 0
        for event in _new_events(service, folder, job_id):
            n_new += 1
            _tell(event, sink)
        if job.get("status") in _ENDED:
            break
        pause_s = _SOONEST_S if n_new else min(_LATEST_S, 1.5 * pause_s)
        time.sleep(pause_s)
    if job["status"] != "succeeded":
        folder.forget("job", "seen", "label")  # the next run of the same spec is another one
        raise _ended_badly(job, service.address.host)
    return job


def _ended_badly(job: Mapping[str, Any], host: str) -> RemoteError:
    error = job.get("error") or {}
    reason = error.get("message") or "no reason is given"
    what = f"the job at `{host}` {'failed' if job['status'] == 'failed' else 'was cancelled'}"
    param = f" (`{error['param']}`)" if error.get("param") else ""
    return RemoteError(
        f"{what}: {reason}{param}" if job["status"] == "failed" else what,
        hint="the same command makes a new job",
    )


def _new_events(service: Service, folder: RemoteFolder, job_id: str) -> Iterator[Mapping[str, Any]]:
    """Yield the events that were not told yet, the oldest first."""
    seen = folder.state.get("seen")
    found = []
    for event in service.pages(f"{_JOBS}/{job_id}/events", limit=100):  # the newest first
        if event.get("id") == seen:
            break
        found.append(event)
    if found:
        folder.remember(seen=found[0].get("id"))
    yield from reversed(found)


def _tell(event: Mapping[str, Any], sink: Sink) -> None:
    message, data = str(event.get("message", "")), event.get("data") or {}
    done, total = data.get("step"), data.get("total_steps")
    if isinstance(done, int) and isinstance(total, int):
        sink(Progress("training there", done, total))
    elif event.get("level") in ("warn", "error"):
        sink(Warned(message))
    else:
        sink(Noted(message))
