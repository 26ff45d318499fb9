"""Jobs, their events and checkpoints as the API shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tunefork.core.hashing import hash_json
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.tables import JobRow


class JobError(BaseModel):
    """Why a job failed; all null where it did not."""

    code: str | None
    message: str | None
    param: str | None


class Job(BaseModel):
    """A fine-tuning job."""

    model_config = ConfigDict(extra="allow")
    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: str
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    error: JobError
    estimated_finish: int | None
    integrations: list[Any]
    metadata: dict[str, str]
    user_provided_suffix: str | None


class Event(BaseModel):
    """Something that happened."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class Checkpoint(BaseModel):
    """The model at some step."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]


class Jobs(BaseModel):
    """A page of jobs."""

    object: Literal["list"]
    data: list[Job]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Events(BaseModel):
    """A page of events."""

    object: Literal["list"]
    data: list[Event]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Checkpoints(BaseModel):
    """A page of checkpoints."""

    object: Literal["list"]
    data: list[Checkpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


def described(
    row: JobRow, organisation: str, estimated_finish: int | None = None
) -> dict[str, Any]:
    """Return a job as the API shows it, with what the gate said as a field of ours."""
    result = row.result or {}
    request = row.request
    return {
        "id": row.id,
        "object": "fine_tuning.job",
        "created_at": row.created,
        "finished_at": row.finished,
        "model": row.model,
        "fine_tuned_model": row.tuned if row.state == "succeeded" else None,
        "organization_id": organisation,
        "status": row.state,
        "hyperparameters": result.get("hyperparameters") or request["hyperparameters"],
        "method": request["method"],
        "training_file": row.training_file,
        "validation_file": row.validation_file,
        "result_files": [row.result_file] if row.result_file else [],
        "trained_tokens": result.get("trained_tokens"),
        "seed": request["seed"],
        "error": row.error or {"code": None, "message": None, "param": None},
        "estimated_finish": estimated_finish if row.state == "running" else None,
        "integrations": [],
        "metadata": request["metadata"],
        "user_provided_suffix": request["suffix"],
        "verdict": result.get("verdict"),
        "reasons": result.get("reasons", []),
        "settings": request.get("settings"),
    }


def event_of(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the API shows it."""
    return {"object": "fine_tuning.job.event", **event}


def checkpoints_of(row: JobRow, folder: JobFolder) -> list[dict[str, Any]]:
    """Return the checkpoints that a job has kept, the newest first."""
    metrics = _metrics_by_step(folder)
    found = []
    for path in sorted(folder.snapshots.glob("step-*"), reverse=True):
        if not path.name.removeprefix("step-").isdigit():
            continue  # one that is being written
        step = int(path.name.removeprefix("step-"))
        digest = hash_json([row.id, step]).removeprefix("sha256:")
        found.append(
            {
                "id": "ftckpt-" + digest[:24],
                "object": "fine_tuning.job.checkpoint",
                "created_at": int(path.stat().st_mtime),
                "fine_tuning_job_id": row.id,
                "fine_tuned_model_checkpoint": f"{row.tuned}:ckpt-step-{step}",
                "step_number": step,
                "metrics": {"step": step, **metrics.get(step, {})},
            }
        )
    return found


def results_csv(folder: JobFolder) -> str:
    """Return the curve as the API's result file; what was not measured is left empty."""
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    for step, found in sorted(_metrics_by_step(folder).items()):
        cells = [
            found.get("train_loss"),
            found.get("train_mean_token_accuracy"),
            found.get("valid_loss"),
            found.get("valid_mean_token_accuracy"),
        ]
        shown = ["" if value is None else f"{value:.6g}" for value in cells]
        lines.append(",".join([str(step), *shown]))
    return "\n".join(lines) + "\n"


def _metrics_by_step(folder: JobFolder) -> dict[int, dict[str, float]]:
    """Return the run's curve in the API's names."""
    found: dict[int, dict[str, float]] = {}
    path = folder.run / "metrics.jsonl"
    lines: Sequence[str] = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = {"loss": "train_loss", "validation_loss": "valid_loss"}
    for line in lines:
        try:
            point = json.loads(line)
            at = found.setdefault(int(point["step"]), {})
        except (ValueError, KeyError, TypeError):  # the line that is being written
            continue
        for ours, theirs in names.items():
            if isinstance(point.get(ours), int | float):
                at[theirs] = float(point[ours])
        if "valid_loss" in at:  # ours is over all held-out rows
            at["full_valid_loss"] = at["valid_loss"]
    return found


def estimated_finish(folder: JobFolder) -> int | None:
    """Return when training will end, as the worker last said."""
    path = folder.path / "events.jsonl"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            data = json.loads(line).get("data") or {}
        except (ValueError, AttributeError):
            continue
        if isinstance(data.get("estimated_finish"), int):
            return int(data["estimated_finish"])
    return None
