"""`/v1/fine_tuning/jobs`: make jobs, look at them, stop them and let them go on."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import func, select

from tunefork.core.files import new_folder, write_json, writing
from tunefork.core.hashing import hash_json
from tunefork.serving.callers import Caller
from tunefork.serving.context import By, Context, Parts
from tunefork.serving.errors import RESPONSES, ApiError, invalid, not_found
from tunefork.serving.ids import new_id, now
from tunefork.serving.job_answer import Job, Jobs, described, estimated_finish
from tunefork.serving.job_body import JobBody, Reinforcement
from tunefork.serving.job_folder import GOLDEN, TRAINING, VALIDATION, JobFolder
from tunefork.serving.job_states import ENDED, GOALS, MAY, Wish, refusal
from tunefork.serving.store import find, known_file, listing, page
from tunefork.serving.tables import JobRow

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["jobs"], responses=RESPONSES)
_SAME_REQUEST_S = 600  # how long a request that is sent again is the same job
_PATIENCE_S = 2.0  # for a worker to stop, before the answer says how far it is


@router.post("", response_model=Job)
def create(
    body: JobBody,
    parts: Parts,
    by: By,
    retries: Annotated[str | None, Header(alias="x-stainless-retry-count")] = None,
    idempotency_key: Annotated[str | None, Header(alias="idempotency-key")] = None,
) -> Any:
    """Make a job. The same request, sent again by the client, is the same job."""
    base = _base(body, parts)
    request = _request(body, parts)
    owner = by.owner
    fingerprint = hash_json([owner, body.model_dump(), idempotency_key])
    if idempotency_key is not None or (retries or "0") != "0":
        known = _same(parts, owner, fingerprint)
        if known is not None:
            return described(known, by.organisation)
    files = {
        TRAINING: ("training_file", body.training_file),
        VALIDATION: ("validation_file", body.validation_file),
        GOLDEN: ("golden_file", body.golden_file),
    }
    sources = {
        name: parts.store.files / known_file(parts.store, owner, given, param).id
        for name, (param, given) in files.items()
        if given is not None
    }
    row = JobRow(
        id=new_id("ftjob-"),
        owner=owner,
        state="validating_files",
        created=now(),
        model=body.model,
        base=base,
        request=request,
        training_file=body.training_file,
        validation_file=body.validation_file,
        fingerprint=fingerprint,
        is_model_deleted=False,
        n_deaths=0,
    )
    row.tuned = _name(body, by, row.id)
    folder = _write(parts, row, sources)
    with parts.store.writing() as session:
        waiting = select(func.count()).where(JobRow.owner == owner, JobRow.state.not_in(ENDED))
        is_full = (session.scalar(waiting) or 0) >= parts.limits.jobs_waiting
        if not is_full:
            session.add(row)
    if is_full:
        shutil.rmtree(folder.path, ignore_errors=True)
        headers = {"retry-after": "60", "x-should-retry": "false"}
        raise ApiError(
            429, "Too many jobs have not ended.", code="rate_limit_exceeded", headers=headers
        )
    parts.keeper.wake()
    return described(row, by.organisation)


def _base(body: JobBody, parts: Context) -> str:
    bases = parts.catalogue.backend.bases
    if body.model not in bases:
        known = ", ".join(f"`{name}`" for name in sorted(bases))
        raise invalid(
            f"`{body.model}` is no base that can be fine-tuned here; there are {known}.",
            "model",
            "model_not_found",
        )
    return bases[body.model]


def _request(body: JobBody, parts: Context) -> dict[str, Any]:
    method = body.chosen()
    settings = method.settings()
    if isinstance(settings, Reinforcement):
        bases = parts.catalogue.backend.bases
        parts.programs.checked_for_job(settings.grader, bases, "method.reinforcement.grader")
    given = (
        settings.hyperparameters.model_dump(exclude_none=True) if settings.hyperparameters else {}
    )
    usual = {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
    hyperparameters = {**usual, **given}
    inner = {"hyperparameters": hyperparameters}
    if isinstance(settings, Reinforcement):
        inner["grader"] = settings.grader
    return {
        "method": {"type": method.type, method.type: inner},
        "hyperparameters": hyperparameters,
        "seed": body.seed if body.seed is not None else int.from_bytes(os.urandom(3), "big"),
        "settings": _settings(body, parts),
        "suffix": body.suffix,
        "metadata": body.metadata or {},
    }


def _settings(body: JobBody, parts: Context) -> dict[str, Any] | None:
    if body.settings is None:
        return None
    return body.settings.checked(parts.programs, parts.catalogue.backend.bases)


def _name(body: JobBody, by: Caller, job_id: str) -> str:
    short = job_id.removeprefix("ftjob-")[:10]
    return f"ft:{body.model}:{by.organisation_name}:{body.suffix or ''}:{short}"


def _same(parts: Context, owner: str, fingerprint: str) -> JobRow | None:
    query = select(JobRow).where(
        JobRow.owner == owner,
        JobRow.fingerprint == fingerprint,
        JobRow.created >= now() - _SAME_REQUEST_S,
    )
    with parts.store.reading() as session:
        return session.scalars(query.order_by(JobRow.number.desc())).first()


def _write(parts: Context, row: JobRow, sources: dict[str, Path]) -> JobFolder:
    """Write the job's folder, with the data as it is now; the files may go afterwards."""
    with new_folder(parts.store.jobs / row.id) as path:
        for name, source in sources.items():
            with writing(path / name):
                try:
                    os.link(source, path / name)
                except OSError:
                    shutil.copyfile(source, path / name)
        content = {
            "id": row.id,
            "base": row.base,
            "tuned": row.tuned,
            "owner": row.owner,
            "bases": dict(parts.catalogue.backend.bases),
            **row.request,
        }
        write_json(path / "job.json", content)
    folder = JobFolder(parts.store.jobs / row.id)
    folder.add_event(f"Created fine-tuning job: {row.id}")
    held_out = f" and validation file: {row.validation_file}" if row.validation_file else ""
    folder.add_event(f"Validating training file: {row.training_file}{held_out}")
    return folder


@router.get("", response_model=Jobs)
def list_jobs(
    request: Request,
    parts: Parts,
    by: By,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Any:
    """Return jobs, the newest first; `metadata[key]=value` picks those with that value."""
    wanted = {
        key[len("metadata[") : -1]: value
        for key, value in request.query_params.items()
        if key.startswith("metadata[") and key.endswith("]")
    }
    query = select(JobRow)
    for key, value in wanted.items():
        query = query.where(JobRow.request["metadata"][key].as_string() == value)
    with parts.store.reading() as session:
        rows, has_more = page(session, query, JobRow, owner=by.owner, after=after, limit=limit)
    return listing([described(row, by.organisation) for row in rows], has_more)


@router.get("/{job_id}", response_model=Job)
def retrieve(job_id: str, parts: Parts, by: By) -> Any:
    """Return a job as it is now."""
    return _shown(parts, by, known_job(parts, by.owner, job_id))


@router.post("/{job_id}/cancel", response_model=Job)
def cancel(job_id: str, parts: Parts, by: By) -> Any:
    """Stop a job for good."""
    return _ask(parts, by, job_id, "cancel")


@router.post("/{job_id}/pause", response_model=Job)
def pause(job_id: str, parts: Parts, by: By) -> Any:
    """Stop a job between two steps, saved."""
    return _ask(parts, by, job_id, "pause")


@router.post("/{job_id}/resume", response_model=Job)
def resume(job_id: str, parts: Parts, by: By) -> Any:
    """Let a paused job go on, to the same result as without the pause."""
    return _ask(parts, by, job_id, "resume")


def _ask(parts: Context, by: Caller, job_id: str, wish: Wish) -> Any:
    row = known_job(parts, by.owner, job_id)
    if row.state not in MAY[wish] or not parts.keeper.ask(row.id, wish):
        row = known_job(parts, by.owner, job_id)
        raise ApiError(400, refusal(row.state, wish), code="wrong_state")
    goal = GOALS.get(wish)
    end = time.monotonic() + _PATIENCE_S
    while goal is not None and time.monotonic() < end:
        row = known_job(parts, by.owner, job_id)
        if row.state == goal or row.state in ENDED:
            break
        time.sleep(0.02)
    return _shown(parts, by, known_job(parts, by.owner, job_id))


def known_job(parts: Context, owner: str, job_id: str) -> JobRow:
    """Return an owner's job.

    Raises:
        ApiError: There is none.
    """
    with parts.store.reading() as session:
        row = find(session, JobRow, owner, job_id)
    if row is None:
        raise not_found("fine-tuning job", job_id)
    return row


def _shown(parts: Context, by: Caller, row: JobRow) -> dict[str, Any]:
    finish = None
    if row.state == "running":
        finish = estimated_finish(JobFolder(parts.store.jobs / row.id))
    return described(row, by.organisation, finish)
