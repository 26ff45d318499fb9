"""What a job made, file by file: `/v1/fine_tuning/jobs/ID/result`. Ours; OpenAI has no such thing.

The files are those of a fixed list in the job's folder, and are asked for by ids made of the job's:
no name from a request reaches the file system. An answer may be asked for from some byte on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from tunefork import __version__
from tunefork.core.hashing import hash_file, hash_json
from tunefork.serving.context import Context, Owner, Parts
from tunefork.serving.errors import RESPONSES, ApiError, not_found
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.jobs import known_job

router = APIRouter(tags=["jobs"], responses=RESPONSES)
_FILES = (
    "card.json",
    "evaluation.json",
    "metrics.jsonl",
    "record.json",
    "report.html",
    "report.json",
    "report.md",
    "result.json",
    "samples.jsonl",
    "spec.json",
)
_MODEL = "model"


class Extensions(BaseModel):
    """What this server does beyond OpenAI's API."""

    object: Literal["tunefork"]
    version: str
    extensions: list[str]


class ResultFile(BaseModel):
    """One file."""

    object: Literal["fine_tuning.job.result_file"]
    id: str
    name: str
    bytes: int
    sha256: str


class ResultFiles(BaseModel):
    """All files that a job made."""

    object: Literal["list"]
    data: list[ResultFile]


@router.get("/v1/tunefork", response_model=Extensions)
def extensions(owner: Owner) -> Any:
    """Say that this is tunefork, and what a client of ours may ask for."""
    return {
        "object": "tunefork",
        "version": __version__,
        "extensions": ["golden_file", "settings", "result"],
    }


@router.get("/v1/fine_tuning/jobs/{job_id}/result", response_model=ResultFiles)
def result(job_id: str, parts: Parts, owner: Owner) -> Any:
    """Return what a job made: the model, what was measured, the report."""
    found = _files(parts, owner, job_id)
    run = JobFolder(parts.store.jobs / job_id).run
    data = [
        {
            "object": "fine_tuning.job.result_file",
            "id": file_id,
            "name": path.relative_to(run).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hash_file(path).removeprefix("sha256:"),
        }
        for file_id, path in found.items()
    ]
    return {"object": "list", "data": data}


@router.get(
    "/v1/fine_tuning/jobs/{job_id}/result/{result_id}",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "The part that was asked for.", "content": {}},
        416: {"description": "There is no such part."},
    },
)
async def content(job_id: str, result_id: str, parts: Parts, owner: Owner) -> Any:
    """Return the bytes of one of these files."""
    found = await run_in_threadpool(_files, parts, owner, job_id)
    if result_id not in found:
        raise not_found("file", result_id)
    return FileResponse(found[result_id], media_type="application/octet-stream")


def _files(parts: Context, owner: str, job_id: str) -> dict[str, Path]:
    """Return the files of an owner's job by their ids."""
    row = known_job(parts, owner, job_id)
    if row.state != "succeeded":
        raise ApiError(400, f"The job is {row.state}; a result has what succeeded.")
    if row.is_model_deleted:
        raise not_found("result of the job", job_id)
    run = JobFolder(parts.store.jobs / row.id).run
    paths = [*(run / name for name in _FILES), *sorted((run / _MODEL).glob("*"))]
    return {_id(row.id, path.relative_to(run).as_posix()): path for path in paths if path.is_file()}


def _id(job_id: str, name: str) -> str:
    return "ftresult-" + hash_json([job_id, name]).removeprefix("sha256:")[:24]
