"""The worker of a fine-tuning job: `python -m tunefork.workflow.job DIR [--check]`.

It reads what to do from the job's folder (see `serving.job_folder`), does what `tunefork check`
or `tunefork run` does, and writes how it ended as its last act: who started it may be gone by then.
With `--check` it looks at the data alone. SIGTERM while it trains saves and ends as `paused`.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core import events
from tunefork.core.errors import DataError, RunError, Stopped, TuneforkError
from tunefork.core.events import Event, no_sink
from tunefork.core.files import read_json, write_json
from tunefork.core.units import bytes_text
from tunefork.serving.job_folder import GOLDEN, TRAINING, VALIDATION, JobFolder, Level
from tunefork.workflow.job_graders import on_bases, require_walls
from tunefork.workflow.job_settings import SETTINGS, owner_of, settings_project
from tunefork.workflow.spec import Project, Spec

_LEAST_ROWS = 10  # as the API has it
_MOST_TOLD = 1000  # steps that are told as events
_OBJECTIVES = {"supervised": "sft", "dpo": "dpo", "reinforcement": "grpo"}
_USUAL_LENGTH = 128  # tokens of an answer that reinforcement draws, where there is room
_USUAL_ANSWERS = 8  # that reinforcement draws to a prompt
_SPEC = "spec.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do a job, and write down how it ended."""
    parser = argparse.ArgumentParser(prog="tunefork-job")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--halvings", type=int, default=0)
    given = parser.parse_args(arguments)
    folder = JobFolder(given.folder)
    try:
        if given.check:
            check_job(folder)
            folder.write_end("validated")
        else:
            folder.write_end("succeeded", result=run_job(folder, given.halvings))
    except Stopped:
        folder.write_end("paused")
    except TuneforkError as error:
        print(error, file=sys.stderr)
        _fail(folder, error.code, _told(error), _param(error))
    except Exception as error:  # noqa: BLE001  the boundary of the process
        traceback.print_exc()
        _fail(folder, "internal_error", f"our fault: {type(error).__name__}", None)


def _fail(folder: JobFolder, code: str, message: str, param: str | None) -> None:
    folder.write_end("failed", error={"code": code, "message": message, "param": param})


def _told(error: TuneforkError) -> str:
    """Return the message with the file's name in place of its path."""
    where = error.where
    place = ""
    if where is not None and Path(where.file).name in (TRAINING, VALIDATION, GOLDEN):
        line = f", line {where.line}" if where.line is not None else ""
        place = f"{Path(where.file).name}{line}: "
    hint = f" ({error.hint})" if error.hint else ""
    return f"{place}{error.message}{hint}"


def _param(error: TuneforkError) -> str | None:
    names = {
        TRAINING: "training_file",
        VALIDATION: "validation_file",
        GOLDEN: "golden_file",
        SETTINGS: SETTINGS,
    }
    return names.get(Path(error.where.file).name) if error.where is not None else None


def check_job(folder: JobFolder) -> None:
    """Look at the data as `tunefork check` does, and whether the method can learn from it.

    Raises:
        DataError: Something in it would spoil the model.
        InputError: It brings a program, and the sandbox does not hold.
    """
    from tunefork.workflow.check import Against, check
    from tunefork.workflow.learnable import check_learnable, stopping_findings

    project = first_project(folder)
    require_walls(project)
    spec = project.spec
    train = project.path(spec.data.first)
    against = Against(
        validation=project.path(spec.data.validation) if spec.data.validation else None,
        golden=project.path(spec.golden) if spec.golden else None,
        base=spec.base,
    )
    checked = check(train, mapping=None, against=against, sink=no_sink)
    stopping = stopping_findings(checked.findings)
    for found in checked.findings:
        level: Level = "error" if found in stopping else "warn"
        told = found.as_dict()
        folder.add_event(found.message, level, {"code": told["code"], "rows": told["rows"]})
    errors = [found.message for found in stopping]
    if errors:
        raise DataError("; ".join(errors[:5]), where=train, hint="`tunefork check` tells all of it")
    if checked.result["rows"] < _LEAST_ROWS:
        raise DataError(
            f"there are {checked.result['rows']} rows, and {_LEAST_ROWS} are the least",
            where=train,
            hint="add more examples",
        )
    check_learnable(train, None, spec.objective.name)


def run_job(folder: JobFolder, halvings: int) -> dict[str, Any]:
    """Train, measure and decide as `tunefork run` does; return what the job becomes.

    Raises:
        TuneforkError: It cannot be done.
        Stopped: It was asked to pause, and is saved.
    """
    from tunefork.workflow.run import run_project

    project = settled_project(folder)
    require_walls(project)
    tell = _Tell(folder, folder.request["tuned"])
    result = run_project(
        project,
        out=folder.run,
        resume=True,
        halvings=halvings,
        snapshots=folder.snapshots,
        sink=tell,
    )
    trained = read_json(folder.run / "result.json")
    return {
        "verdict": result["verdict"],
        "reasons": result["reasons"],
        "trained_tokens": trained["tokens"],
        "steps": trained["steps"],
        "hyperparameters": read_json(folder.path / "settled.json"),
    }


def first_project(folder: JobFolder) -> Project:
    """Return what a job asks for as a project, with what the rules derive left to them."""
    from tunefork.models import find_base

    request = folder.request
    if request.get(SETTINGS) is not None:
        return settings_project(folder)
    method = request["method"]["type"]
    given = request["hyperparameters"]
    objective: dict[str, Any] = {"name": _OBJECTIVES[method]}
    if given.get("beta", "auto") != "auto":
        objective["beta"] = given["beta"]
    if method == "reinforcement":
        grader = request["method"][method]["grader"]
        grader = on_bases(grader, request.get("bases", {}))
        objective |= _reinforcement(grader, given, find_base(request["base"]).max_length)
    spec = Spec.model_validate(
        {
            "goal": request["tuned"],
            "base": request["base"],
            "data": {
                "train": TRAINING,
                "validation": VALIDATION if (folder.path / VALIDATION).is_file() else None,
            },
            "golden": GOLDEN if (folder.path / GOLDEN).is_file() else None,
            "objective": objective,
            "training": {"epochs": given["n_epochs"], "seed": request["seed"]},
        }
    )
    return Project(spec=spec, folder=folder.path, name=request["id"], owner=owner_of(folder))


def _reinforcement(
    grader: dict[str, Any], given: dict[str, Any], longest: int | None
) -> dict[str, Any]:
    """Return the settings of reinforcement: a batch is of prompts, compute is answers to each.

    An answer takes a quarter of the base's longest row at most, so that prompts have room.
    """
    found: dict[str, Any] = {"grader": grader}
    if longest is not None and longest < 4 * _USUAL_LENGTH:
        found["max_tokens"] = max(1, longest // 4)
    if given["batch_size"] != "auto":
        found["prompts"] = given["batch_size"]
    if given.get("compute_multiplier", "auto") != "auto":
        found["answers"] = max(2, round(_USUAL_ANSWERS * given["compute_multiplier"]))
    return found


def settled_project(folder: JobFolder) -> Project:
    """Return the project with the API's own units in ours; the same each time.

    A multiplier is of the derived rate, and a batch of rows is as many tokens as so many rows have
    on the average.

    Raises:
        RunError: There is too little memory for it.
    """
    from tunefork.workflow.derive import derive
    from tunefork.workflow.machine import this_machine
    from tunefork.workflow.prepare import prepare_again

    project = first_project(folder)
    path = folder.path / _SPEC
    if path.is_file():
        return project.model_copy(update={"spec": Spec.model_validate(read_json(path))})
    prepared = prepare_again(project, no_sink, None)
    data = prepared.data
    derived = derive(project.spec, prepared.base, data)
    machine = this_machine()
    if derived.memory.total > machine.usable_bytes:
        raise RunError(
            f"training takes about {bytes_text(derived.memory.total)} of memory, and "
            f"{bytes_text(machine.usable_bytes)} can be used",
            hint="close other programs, or choose a smaller base",
        )
    given, spec = folder.request["hyperparameters"], project.spec
    row_tokens = max(1.0, data.tokens_per_epoch / max(1, len(data.rows)))
    rate, batch = given["learning_rate_multiplier"], given["batch_size"]
    if batch != "auto" and spec.objective.name != "grpo":
        spec = _trained_with(spec, batch_tokens=max(1, round(batch * row_tokens)))
    # The rate that is multiplied is the one for steps of that size; nothing else follows from it.
    settled = derive(spec, prepared.base, data).settings
    if rate != "auto":
        spec = _trained_with(spec, learning_rate=float(f"{settled.learning_rate * rate:.4g}"))
    write_json(
        folder.path / "settled.json",
        {
            **given,
            "n_epochs": settled.epochs,
            "batch_size": batch if batch != "auto" else round(settled.batch_tokens / row_tokens),
            "learning_rate_multiplier": rate if rate != "auto" else 1.0,
        },
    )
    folder.add_event(
        f"Plan: {derived.chosen.name}, about {bytes_text(derived.memory.total)} of memory",
        data={"settings": [setting._asdict() for setting in derived.origins]},
    )
    write_json(path, spec.model_dump(mode="json"))
    return project.model_copy(update={"spec": spec})


def _trained_with(spec: Spec, **changes: float) -> Spec:
    return spec.model_copy(update={"training": spec.training.model_copy(update=changes)})


@dataclass
class _Tell:
    """A sink that tells a run as the API's events."""

    folder: JobFolder
    tuned: str
    n_steps: int = 0
    doing: str = ""

    def __call__(self, event: Event) -> None:
        match event:
            case events.RunStarted():
                self.n_steps = event.steps
                if event.step:
                    self.folder.add_event(f"Going on from step {event.step} of {event.steps}")
            case events.StepDone():
                every = max(1, event.steps // _MOST_TOLD)
                if event.step % every == 0 or event.step == event.steps:
                    measured = {f"train_{name}": value for name, value in event.metrics.items()}
                    self._metrics(
                        event.step,
                        "training loss",
                        train_loss=event.loss,
                        **measured,
                        **_finish(event),
                    )
            case events.Validated():
                losses = {"valid_loss": event.loss, "full_valid_loss": event.loss}
                self._metrics(event.step, "validation loss", **losses)
            case events.CheckpointSaved():
                name = f"{self.tuned}:ckpt-step-{event.step}"
                self.folder.add_event(
                    f"Checkpoint created at step {event.step}", data={"name": name}
                )
            case events.Warned():
                self.folder.add_event(event.message, "warn")
            case events.Progress(what=what) if what != self.doing:
                self.doing = what
                self.folder.add_event(f"Working on it: {what}")
            case events.RunEnded():
                self.folder.add_event(f"Training ended at step {event.step}: {event.reason}")

    def _metrics(self, step: int, what: str, **values: float) -> None:
        loss = next(iter(values.values()))
        data = {"step": step, "total_steps": self.n_steps, **values}
        self.folder.add_event(f"Step {step}/{self.n_steps}: {what}={loss:.4f}", data=data)


def _finish(event: events.StepDone) -> dict[str, int]:
    return {"estimated_finish": int(time.time() + event.seconds_left)}


if __name__ == "__main__":
    main()
