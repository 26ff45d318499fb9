"""Bring a fine-tuned model's makings home before it is switched off: files, settings, answers.

What the service gives lies in `service/` in the project's folder, as it came; beside it a spec, the
training rows, and the model's own answers as validation rows and golden questions, ready for `run`.
A rescue that was cut short goes on where it was, and asks nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import InputError, RemoteError, RunError
from tunefork.core.events import Noted, Sink, Warned
from tunefork.core.files import new_file, read_json, write_json, writing
from tunefork.workflow.json_lines import write_lines
from tunefork.workflow.remote_result import curve_of
from tunefork.workflow.rescue_answers import Estimate, askings, estimate, record, recorded
from tunefork.workflow.rescue_project import write_project
from tunefork.workflow.service import Service

_JOBS = "/fine_tuning/jobs"
_SERVICE, _JOB, _ANSWERS = "service", "job.json", "answers.jsonl"
_FILES = {"training_file": "training.jsonl", "validation_file": "validation.jsonl"}


@dataclass(frozen=True)
class RescueSettings:
    """What to bring.

    Attributes:
        folder: The project's folder, new or that of a rescue to go on with.
        model: The fine-tuned model's name, or its job's id; None where there is one alone.
        base: The base that the project is to tune.
        answers: How many prompts to ask the model at most; 0 asks none.
    """

    folder: Path
    model: str | None
    base: str
    answers: int


def rescue(
    service: Service, settings: RescueSettings, agree: Callable[[Estimate], bool], sink: Sink
) -> dict[str, Any]:
    """Bring everything, and write the project; return what `rescue --json` prints.

    Args:
        service: Where it is.
        settings: What to bring.
        agree: Asked before the model is, with what that would take.
        sink: Told what happens.

    Raises:
        RemoteError: The service is not there, refuses, or has lost the training rows.
        RunError: The folder holds something else.
        InputError: It is not clear which model is meant.
    """
    place = settings.folder / _SERVICE
    job = _job(service, settings, place)
    model = str(job["fine_tuned_model"])
    files = _bring_files(service, job, place, sink)
    wanted = askings(files.get("validation_file"), files["training_file"], settings.answers)
    path = place / _ANSWERS
    needed = estimate(wanted, recorded(path))
    n_asked = 0
    if needed.questions and agree(needed):
        n_asked = record(service, model, wanted, path, sink)
    found = write_project(settings.folder, settings.base, job, files, wanted, recorded(path), sink)
    return {
        "folder": str(settings.folder),
        "model": model,
        "job": job["id"],
        "asked": n_asked,
        "recorded": len(recorded(path)),
        **found,
        "next": f"tunefork run {settings.folder}",
    }


def _job(service: Service, settings: RescueSettings, place: Path) -> dict[str, Any]:
    """Return the model's job: the one that was begun with, or the one that is meant."""
    known = place / _JOB
    if known.is_file():
        job = read_json(known)
        if settings.model not in (None, job["fine_tuned_model"], job["id"]):
            raise RunError(
                f"the folder holds what was rescued of `{job['fine_tuned_model']}`",
                where=settings.folder,
                hint="name another folder",
            )
        return job
    if settings.folder.exists() and (
        not settings.folder.is_dir() or any(settings.folder.iterdir())
    ):
        raise RunError("the folder is not empty", where=settings.folder, hint="name a new folder")
    job = _chosen(service, settings.model)
    write_json(known, job)
    return job


def _chosen(service: Service, name: str | None) -> dict[str, Any]:
    jobs = [each for each in service.pages(_JOBS, limit=100) if each.get("fine_tuned_model")]
    fitting = [each for each in jobs if name in (None, each["fine_tuned_model"], each["id"])]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"`{each['fine_tuned_model']}`" for each in jobs[:20]) or "none"
    what = f"no fine-tuned model `{name}`" if name else "not one fine-tuned model alone"
    raise InputError(
        f"there is {what} at `{service.address.host}`; there are: {there}",
        hint="name one with `--model`",
    )


def _bring_files(
    service: Service, job: Mapping[str, Any], place: Path, sink: Sink
) -> dict[str, Path]:
    """Fetch the rows, the curve, events and checkpoints, those that are not here yet.

    Raises:
        RemoteError: The training rows are not there any more.
    """
    found = {}
    for param, name in _FILES.items():
        path = place / name
        if job.get(param) and _bring(service, str(job[param]), path, sink):
            found[param] = path
    if "training_file" not in found:
        raise RemoteError(
            f"the training rows of `{job['fine_tuned_model']}` are not there any more",
            hint="make a project of your own copy: `tunefork init DIR --goal … --data ROWS`",
        )
    for number, file_id in enumerate(job.get("result_files") or []):
        path = place / (f"metrics-{number + 1}.csv" if number else "metrics.csv")
        content = None if path.is_file() else service.read(f"/files/{file_id}/content")
        if content is not None:
            with new_file(path) as file:
                file.write(curve_of(content))
    for what in ("events", "checkpoints"):
        path = place / f"{what}.jsonl"
        if not path.is_file():
            write_lines(path, service.pages(f"{_JOBS}/{job['id']}/{what}", limit=100))
    return found


def _bring(service: Service, file_id: str, path: Path, sink: Sink) -> bool:
    """Fetch a file; say whether it is here now."""
    if path.is_file():
        return True
    about = service.find(f"/files/{file_id}")
    if about is None:
        sink(Warned(f"the file {file_id} is not there any more"))
        return False
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        partial.parent.mkdir(parents=True, exist_ok=True)
        service.download(f"/files/{file_id}/content", partial, int(about.get("bytes") or 0))
        partial.replace(path)
    sink(Noted(f"{path.name}: {about.get('filename')}"))
    return True
