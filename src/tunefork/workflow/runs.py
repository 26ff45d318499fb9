"""Run folders: where a run's record, checkpoints, result and report lie.

spec.json           the resolved spec: run it again and get the same
record.json         hashes of data, base and code; versions; machine
.lock               while it runs: held by the process whose number it holds (see `claim`)
metrics.jsonl       one line per step and per validation
samples.jsonl       answers drawn at a few steps, where it learns from rewards
checkpoints/ best/  while it runs
model/              the result: a PEFT adapter folder, or a whole model
result.json         what `train --json` prints; its presence says that training is finished
evaluation.json     answers, scores and verdict
report.html
card.json           the same in short, signed (see `proof`)
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tunefork import __version__
from tunefork.core.errors import RunError
from tunefork.core.events import Event, RunStarted, Sampled, Sink, StepDone, Validated
from tunefork.core.files import home, read_json, write_json, write_text, writing
from tunefork.core.hashing import hash_file, hash_json
from tunefork.data import Prompts
from tunefork.workflow.derive import Derived
from tunefork.workflow.objective_specs import FromRewards, ObjectiveSpec, function_file
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project, Spec

_IRRELEVANT = {"tunefork", "platform", "cores"}  # the code is known by its hash
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
    def kept_out(self) -> Prompts | None:
        """The questions whose rows it left out; None before it has begun."""
        if not self.record_file.is_file():
            return None
        return Prompts(np.array(self.record.get("kept_out", []), np.uint64))

    @property
    def strategy(self) -> str | None:
        """The name of the strategy that it began with; None before it has begun."""
        if not self.spec_file.is_file():
            return None
        name: str = read_json(self.spec_file)["strategy"]["name"]
        return name

    @property
    def model(self) -> Path:
        """Where the result lies."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """The curve."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Answers that were drawn while it learned from rewards."""
        return self.path / "samples.jsonl"

    @property
    def result(self) -> dict[str, Any] | None:
        """What training ended with; None while it has not ended."""
        path = self.path / "result.json"
        return read_json(path) if path.is_file() else None


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


def write_record(
    run: RunFolder, project: Project, prepared: Prepared, plan: Derived, model: Any
) -> None:
    """Write what the run is made of, when its data has passed every check."""
    # The record comes first: a folder with a record can be resumed, however little else is there.
    write_json(run.record_file, _record(run, project, prepared, model))
    if not run.spec_file.is_file():
        write_json(run.spec_file, resolved_spec(project, prepared, plan).model_dump(mode="json"))


def changes_since(run: RunFolder, model: Any) -> list[str]:
    """Say what of versions, threads, device and code is not as it was when the run began."""
    then = run.record.get("environment", {})
    found = [
        f"{key} was {then.get(key)} and is {value}"
        for key, value in environment_of(model).items()
        if key not in _IRRELEVANT and then.get(key) != value
    ]
    if run.record.get("code_hash") != code_hash():
        found.append("the code of tunefork is another")
    return found


def resolved_spec(project: Project, prepared: Prepared, plan: Derived) -> Spec:
    """Return the spec with every place and every derived number written out.

    It runs from anywhere, and gives the same result under other rules for `auto`.
    """

    def place(relative: str | None) -> str | None:
        return None if relative is None else str(project.path(relative))

    spec = project.spec
    data = spec.data.model_copy(
        update={
            "train": place(spec.data.train)
            if isinstance(spec.data.train, str)
            else {str(project.path(name)): share for name, share in spec.data.train.items()},
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
            "gate": spec.gate.model_copy(update={"canaries": place(spec.gate.canaries)}),
            "forgetting": spec.forgetting.model_copy(
                update={"suites": tuple(str(project.path(n)) for n in spec.forgetting.suites)}
            ),
            "training": training,
            "objective": _placed(project),
        }
    )
    # Read back, so that what is stored is known to be a spec.
    return Spec.model_validate(
        {**resolved.model_dump(mode="json"), "strategy": plan.chosen.model_dump()}
    )


def _placed(project: Project) -> ObjectiveSpec:
    """Return the objective with the places of what gives its rewards written out."""
    objective = project.spec.objective
    if not isinstance(objective, FromRewards):
        return objective
    file, rewards = function_file(objective), objective.reward_model
    if file is not None and objective.function is not None:
        name = objective.function.rpartition(":")[2]
        return objective.model_copy(update={"function": f"{project.path(file)}:{name}"})
    if rewards is not None and project.path(rewards).is_dir():
        return objective.model_copy(update={"reward_model": str(project.path(rewards))})
    return objective


def _record(run: RunFolder, project: Project, prepared: Prepared, model: Any) -> dict[str, Any]:
    return {
        "identity": run.identity,
        "project": project.name,
        "folder": str(project.folder),
        "date": project.spec.date.isoformat() if project.spec.date else None,
        "data_hash": prepared.data_hash(),
        "kept_out": prepared.kept_out.hashes.tolist(),
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
        "code_hash": code_hash(),
        "environment": environment_of(model),
    }


def environment_of(model: Any) -> dict[str, Any]:
    """Return what decides the bits of a result besides data, settings and code."""
    import torch

    weight = next(model.parameters())
    return {
        "tunefork": __version__,
        "python": sys.version.split()[0],
        **{name: version(name) for name in _VERSIONED},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device_name(weight.device),
        "compute_dtype": str(weight.dtype).removeprefix("torch."),
    }


def _device_name(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.backends.cpu.get_cpu_capability()})"


def code_hash() -> str:
    """Return one hash over all of our code."""
    package = Path(__file__).parents[1]
    return hash_json(
        {path.relative_to(package).as_posix(): hash_file(path) for path in package.rglob("*.py")}
    )


class RunFiles:
    """A sink that writes curve and samples; lines after the step that a run resumes from go."""

    def __init__(self, run: RunFolder, next_sink: Sink) -> None:
        self._metrics, self._samples = run.metrics, run.samples
        self._next = next_sink

    def __call__(self, event: Event) -> None:
        """Write the event, where it is a point of the curve or a table, and pass it on."""
        if isinstance(event, RunStarted):
            _drop_lines(self._metrics, lambda step: step > event.step)
            _drop_lines(self._samples, lambda step: step >= event.step)  # told before their step
        elif isinstance(event, StepDone):
            self._point(
                step=event.step,
                loss=event.loss,
                learning_rate=event.learning_rate,
                gradient_norm=event.gradient_norm,
                tokens=event.tokens,
                tokens_per_second=event.tokens_per_second,
                **event.metrics,
            )
        elif isinstance(event, Validated):
            metrics = {f"validation_{name}": value for name, value in event.metrics.items()}
            if event.forgetting is not None:
                metrics["forgetting"] = event.forgetting
            self._point(step=event.step, validation_loss=event.loss, **metrics)
        elif isinstance(event, Sampled):
            _append(self._samples, [{"step": event.step, **sample} for sample in event.samples])
        self._next(event)

    def _point(self, **values: float) -> None:
        _append(self._metrics, [values])


def _append(path: Path, values: Sequence[Mapping[str, object]]) -> None:
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in values)
    with writing(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(lines)


def _drop_lines(path: Path, is_late: Callable[[float], bool]) -> None:
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(path, "".join(line for line in lines if not is_late(_step_of(line))))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the line that a kill cut short
        return float("inf")
