"""What graders of a server's job may do: they are whose the job is, and that may be a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunefork.core.errors import DataError
from tunefork.workflow.objective_specs import GrpoSpec, PpoSpec
from tunefork.workflow.spec import Project


def require_walls(project: Project) -> None:
    """Let a job's programs run where the sandbox holds.

    Raises:
        InputError: It has some, in its reward or its golden questions, and it does not hold.
    """
    from tunefork.evaluation import load_golden
    from tunefork.graders import runs_programs, validate_grader
    from tunefork.graders.sandbox import verify

    spec = project.spec
    golden = load_golden(project.path(spec.golden)) if spec.golden else []
    graders = [question.grader for question in golden]
    objective = spec.objective
    # A grader by its name alone is filled from each row, and is no program.
    if isinstance(objective, GrpoSpec | PpoSpec) and isinstance(objective.grader, dict):
        graders.append(validate_grader(objective.grader))
    if any(runs_programs(grader) for grader in graders):
        verify().require()


def on_bases(grader: dict[str, Any], bases: Mapping[str, str]) -> dict[str, Any]:
    """Return a grader that asks bases by what their names stand for where it was sent.

    Raises:
        DataError: It asks another model: what a stranger names is not opened.
    """
    found = dict(grader)
    if found.get("model") is not None:
        if found["model"] not in bases:
            raise DataError("the grader asks a model that is no base of this server")
        found["model"] = bases[found["model"]]
    if isinstance(found.get("graders"), dict):
        found["graders"] = {
            name: on_bases(each, bases) if isinstance(each, dict) else each
            for name, each in found["graders"].items()
        }
    return found


def without_files(project: Project, bases: Mapping[str, str]) -> Project:
    """Return a project that opens no file or model which its sender named.

    Raises:
        DataError: It would, in whatever form it was written.
    """
    spec = project.spec
    objective = spec.objective
    if spec.gate.canaries is not None:
        raise DataError("`gate.canaries` names a file of this server", where="settings.gate")
    if not isinstance(objective, GrpoSpec | PpoSpec):
        return project
    if objective.function is not None or objective.reward_model is not None:
        raise DataError("the reward names a file of this server", where="settings.objective")
    if not isinstance(objective.grader, dict):
        return project
    asking = objective.model_copy(update={"grader": on_bases(objective.grader, bases)})
    return project.model_copy(update={"spec": spec.model_copy(update={"objective": asking})})
