"""Run folders: where a run's record, checkpoints, result and report lie.

spec.json           the resolved spec: run it again and get the same
record.json         hashes of data, base and code; versions; machine
metrics.jsonl       one line per step and per validation
checkpoints/ best/  while it runs
model/              the result: a PEFT adapter folder, or a whole model
result.json         what `train --json` prints; its presence says that training is finished
evaluation.json     answers, scores and verdict
report.html
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunefork import __version__
from tunefork.core.errors import RunError
from tunefork.core.events import Event, RunStarted, Sink, StepDone, Validated
from tunefork.core.files import home, read_json, write_json, write_text, writing
from tunefork.core.hashing import hash_file, hash_json
from tunefork.models import Base
from tunefork.workflow.derive import Derived
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project, Spec

_VERSIONED = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path
    identity: str  # hash of what decides its result

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def model_name(self) -> str:
        """What to call its result by, in `chat` and `eval`: its name where that is enough."""
        is_at_home = self.path.parent.resolve() == (home() / "runs").resolve()
        return self.name if is_at_home else str(self.path)

    @property
    def spec_file(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.json"

    @property
    def record_file(self) -> Path:
        """What the run is made of."""
        return self.path / "record.json"

    @property
    def record(self) -> dict[str, Any]:
        """What the run is made of, as it was written."""
        return read_json(self.record_file)

    @property
    def model(self) -> Path:
        """Where the result lies."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The curve."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> dict[str, Any] | None:
        """What training ended with; None while it has not ended."""
        path = self.path / "result.json"
        return read_json(path) if path.is_file() else None


def find_run(project: Project, base: Base, *, out: Path | None, resume: bool) -> RunFolder:
    """Return the folder to run in; nothing is written yet.

    A run is known by its spec, its data files and its base. With `resume` the newest run of the
    same identity goes on; without it a new folder is taken.

    Raises:
        RunError: `out` holds something else.
    """
    identity = _identity(project, base)
    if out is not None:
        with writing(out):
            return RunFolder(_given_folder(out.resolve(), identity, resume), identity)
    return RunFolder(_home_folder(f"{project.name}-{identity.split(':')[1][:8]}", resume), identity)


def _identity(project: Project, base: Base) -> str:
    spec = project.spec
    files = [spec.data.train, *([spec.data.validation] if spec.data.validation else [])]
    paths = [project.path(name) for name in files]
    return hash_json(
        [
            # The gate and the questions may change without making it another training run.
            # Files count by what is in them, not by where they lie.
            spec.model_dump(
                mode="json",
                exclude={
                    "goal": True,
                    "base": True,
                    "golden": True,
                    "gate": True,
                    "date": True,
                    "data": {"train", "validation", "documents"},
                },
            ),
            [hash_file(path) if path.is_file() else None for path in paths],
            base.hash(),
        ]
    )


def pin_date(project: Project, run: RunFolder) -> Project:
    """Return the project with the date that templates see: given, the run's own, or today."""
    given = project.spec.date
    stored = read_json(run.record_file).get("date") if run.record_file.is_file() else None
    if stored is not None and given is not None and given.isoformat() != stored:
        raise RunError(
            f"the run began with the date {stored}, and the spec now says {given}",
            where=run.path,
            hint="undo the change to resume it, or name a new folder with `--out`",
        )
    date = given or (datetime.date.fromisoformat(stored) if stored else datetime.date.today())
    return project.model_copy(update={"spec": project.spec.model_copy(update={"date": date})})


def write_record(run: RunFolder, project: Project, prepared: Prepared, plan: Derived) -> None:
    """Write what the run is made of, once, when its data has passed every check."""
    # The record comes first: a folder with a record can be resumed, however little else is there.
    if not run.record_file.is_file():
        write_json(run.record_file, _record(run, project, prepared))
    if not run.spec_file.is_file():
        write_json(run.spec_file, _resolved(project, prepared, plan).model_dump(mode="json"))


def _resolved(project: Project, prepared: Prepared, plan: Derived) -> Spec:
    """Return the spec with every place and every derived number written out.

    It runs from anywhere, and gives the same result under other rules for `auto`.
    """

    def place(relative: str | None) -> str | None:
        return None if relative is None else str(project.path(relative))

    spec = project.spec
    data = spec.data.model_copy(
        update={
            "train": place(spec.data.train),
            "validation": place(spec.data.validation),
            "documents": place(spec.data.documents),
        }
    )
    training = spec.training.model_copy(
        update={
            "epochs": plan.settings.epochs,
            "learning_rate": plan.settings.learning_rate,
            "batch_tokens": plan.settings.batch_tokens,
            "max_length": prepared.max_length,
        }
    )
    resolved = spec.model_copy(
        update={
            "base": prepared.base.address,
            "data": data,
            "golden": place(spec.golden),
            "training": training,
        }
    )
    # Read back, so that what is stored is known to be a spec.
    return Spec.model_validate(
        {**resolved.model_dump(mode="json"), "strategy": plan.strategy.describe()}
    )


def _given_folder(out: Path, identity: str, resume: bool) -> Path:
    if out.exists() and not out.is_dir():
        raise RunError("this is a file, not a folder", where=out, hint="name another folder")
    # A kill may have left a file that was being written; it counts for nothing.
    if not out.exists() or all(path.suffix == ".partial" for path in out.iterdir()):
        return out
    record = out / "record.json"
    if not record.is_file():
        raise RunError("the folder is not empty", where=out, hint="name a new folder with `--out`")
    if not resume:
        raise RunError(
            "the folder already holds a run",
            where=out,
            hint="go on with `--resume`, or name a new folder with `--out`",
        )
    if read_json(record).get("identity") != identity:
        raise RunError(
            "the folder holds a run of another spec, other data or another base",
            where=out,
            hint="undo the change to resume it, or name a new folder with `--out`",
        )
    return out


def _home_folder(name: str, resume: bool) -> Path:
    runs = home() / "runs"
    paths = [runs / name]
    while paths[-1].exists():
        paths.append(runs / f"{name}-{len(paths) + 1}")
    return paths[-2] if resume and len(paths) > 1 else paths[-1]


def _record(run: RunFolder, project: Project, prepared: Prepared) -> dict[str, Any]:
    import torch

    return {
        "identity": run.identity,
        "project": project.name,
        "folder": str(project.folder),
        "date": project.spec.date.isoformat() if project.spec.date else None,
        "data_hash": prepared.data_hash(),
        "rows": {
            "training": len(prepared.data.rows),
            "replayed": prepared.data.n_replayed,
            "validation": len(prepared.data.validation) if prepared.data.validation else 0,
        },
        "base": {
            "name": prepared.base.name,
            "hash": prepared.base.hash(),
            "bytes": prepared.base.weight_bytes,
        },
        "code_hash": _code_hash(),
        "environment": {
            "tunefork": __version__,
            "python": sys.version.split()[0],
            **{name: version(name) for name in _VERSIONED},
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _code_hash() -> str:
    package = Path(__file__).parents[1]
    return hash_json(
        {path.relative_to(package).as_posix(): hash_file(path) for path in package.rglob("*.py")}
    )


class MetricsFile:
    """A sink that writes the curve; lines after the step that a run resumes from are dropped."""

    def __init__(self, path: Path, next_sink: Sink) -> None:
        self._path = path
        self._next = next_sink

    def __call__(self, event: Event) -> None:
        """Write the event, where it is a point of the curve, and pass it on."""
        if isinstance(event, RunStarted):
            self._drop_after(event.step)
        elif isinstance(event, StepDone):
            self._write(
                step=event.step,
                loss=event.loss,
                learning_rate=event.learning_rate,
                gradient_norm=event.gradient_norm,
                tokens=event.tokens,
                tokens_per_second=event.tokens_per_second,
            )
        elif isinstance(event, Validated):
            self._write(step=event.step, validation_loss=event.loss)
        self._next(event)

    def _drop_after(self, step: int) -> None:
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(self._path, "".join(line for line in lines if _step_of(line) <= step))

    def _write(self, **values: float) -> None:
        with writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the line that a kill cut short
        return float("inf")
