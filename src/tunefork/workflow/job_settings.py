"""The project of a job that was given parts of a spec: the one that its sender has, word for word.

So the job's result is the one that the sender's machine would have made of the same spec: the same
workflow with the same settings, seed and rows. What differs is where files lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunefork.serving.callers import LOCAL
from tunefork.serving.job_folder import GOLDEN, TRAINING, VALIDATION, JobFolder
from tunefork.workflow.job_graders import without_files
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.spec_errors import explain

SETTINGS = "settings"  # the parameter's name, in errors too
_PARTS = ("strategy", "objective", "training", "gate", "prices", "date")


def settings_project(folder: JobFolder) -> Project:
    """Return the project that a job's settings describe.

    Raises:
        SpecError: They are no parts of a spec; all problems at once.
        DataError: They name a file or a model of this server.
    """
    request = folder.request
    given = request[SETTINGS]
    data: dict[str, Any] = {
        "train": TRAINING,
        "validation": VALIDATION if (folder.path / VALIDATION).is_file() else None,
    }
    if "replay" in given:
        data["replay"] = given["replay"]
    values = {
        "goal": given.get("goal") or request["tuned"],
        "base": request["base"],
        "data": data,
        "golden": GOLDEN if (folder.path / GOLDEN).is_file() else None,
        **{part: given[part] for part in _PARTS if part in given},
    }
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise explain(error, Spec, Path(SETTINGS), None) from error
    project = Project(spec=spec, folder=folder.path, name=request["id"], owner=owner_of(folder))
    return without_files(project, request.get("bases", {}))


def owner_of(folder: JobFolder) -> str | None:
    """Return whose a job is; None for the local user, who has other projects too."""
    owner = folder.request.get("owner", LOCAL)
    return None if owner == LOCAL else str(owner)
