"""A project as another server takes it: its rows as JSON lines, its settings in the API's words.

Our own server takes the spec's settings as they stand. OpenAI's API has few words for them: what it
has none for is refused where it would change the model, and told where it only measures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, SpecError
from tunefork.core.events import Sink, Warned
from tunefork.core.files import writing
from tunefork.data import Prompts
from tunefork.data.convert.run import convert
from tunefork.data.example import Kind
from tunefork.data.read import scan_records
from tunefork.evaluation import load_golden
from tunefork.workflow.json_lines import read_lines, write_lines
from tunefork.workflow.learnable import kinds_of
from tunefork.workflow.objective_specs import DpoSpec, FromRewards, GrpoSpec
from tunefork.workflow.spec import Project, Spec

# Which format rows of each kind are sent in: OpenAI's where it has one.
_FORMATS: dict[Kind, str] = {
    "chat": "chat",
    "preference": "openai-preference",
    "judged": "kto",
    "labelled": "labels",
    "text": "text",
    "prompts": "prompts",
}
_SETTINGS = ("goal", "strategy", "objective", "training", "gate", "prices", "date")
_METHODS = {"sft": "supervised", "dpo": "dpo", "grpo": "reinforcement"}


@dataclass(frozen=True)
class Sending:
    """What a server is sent.

    Attributes:
        files: The file of each parameter of the job, with its purpose.
        body: The rest of the job's parameters.
    """

    files: Mapping[str, tuple[Path, str]]
    body: Mapping[str, Any]


def check_sendable(project: Project) -> None:
    """Refuse what no other machine can be told.

    Raises:
        SpecError: The spec names code or weights of this machine, or several files.
    """
    spec = project.spec
    if not isinstance(spec.data.train, str):
        raise _refused("data.train", "mixes files, and a job learns from one")
    if isinstance(spec.objective, FromRewards):
        for name in ("function", "reward_model"):
            if getattr(spec.objective, name) is not None:
                raise _refused(f"objective.{name}", "is of this machine", "use a `grader`")


def _refused(key: str, why: str, hint: str = "run it here, without `--on`") -> SpecError:
    return SpecError(f"`{key}` {why}, so it cannot be sent", where=key, hint=hint)


def to_ours(project: Project, folder: Path, sink: Sink) -> Sending:
    """Return what our own server is sent: everything that decides on the result."""
    spec = project.spec
    kept = {
        "data.documents": spec.data.documents,
        "gate.canaries": spec.gate.canaries,
        "forgetting.suites": spec.forgetting.suites or None,
    }
    _tell_kept(kept, sink)
    files = _rows(project, folder, sink)
    if spec.golden is not None:
        files["golden_file"] = (_golden(project, folder), "evals")
    given = spec.model_dump(mode="json", exclude_unset=True)
    settings = {name: given[name] for name in _SETTINGS if name in given}
    settings.get("gate", {}).pop("canaries", None)
    if spec.data.replay:
        settings["replay"] = spec.data.replay
    return Sending(files, {"model": spec.base, "settings": settings})


def to_openai(project: Project, folder: Path, sink: Sink) -> Sending:
    """Return what a server with OpenAI's API alone is sent.

    Raises:
        SpecError: The spec asks for what that API has no words for.
    """
    spec = project.spec
    _check_words(spec)
    measured = {
        "golden": spec.golden,
        "data.documents": spec.data.documents,
        "gate.canaries": spec.gate.canaries,
        "forgetting.suites": spec.forgetting.suites or None,
    }
    _tell_kept(measured, sink)
    files = _rows(project, folder, sink)
    if isinstance(spec.objective, GrpoSpec):
        _spread_items(files)
    if spec.golden is not None:
        _leave_out(files, Prompts.of(q.text for q in load_golden(project.path(spec.golden))))
    hyperparameters: dict[str, Any] = {"n_epochs": spec.training.epochs}
    inner: dict[str, Any] = {"hyperparameters": hyperparameters}
    objective = spec.objective
    if isinstance(objective, DpoSpec) and "beta" in objective.model_fields_set:
        hyperparameters["beta"] = objective.beta
    if isinstance(objective, GrpoSpec):
        inner["grader"] = objective.grader
    kind = _METHODS[objective.name]
    method = {"type": kind, kind: inner}
    return Sending(files, {"model": spec.base, "seed": spec.training.seed, "method": method})


def _check_words(spec: Spec) -> None:
    """Stop at settings that would change the model, and that the API has no words for."""
    training, objective = spec.training, spec.objective
    allowed = {"name", "grader"} | ({"beta"} if objective.name == "dpo" else set())
    wrong = {
        "strategy": spec.strategy.name != "auto",
        "data.replay": bool(spec.data.replay),
        "training.learning_rate": training.learning_rate != "auto",
        "training.schedule": "schedule" in training.model_fields_set,
        "training.batch_tokens": training.batch_tokens != "auto",
        "training.max_length": training.max_length != "auto",
        f"objective.name: {objective.name}": objective.name not in _METHODS,
        "objective.grader by name": isinstance(getattr(objective, "grader", None), str),
        **{
            f"objective.{name}": name not in allowed
            for name in sorted(type(objective).model_fields.keys() & objective.model_fields_set)
        },
    }
    found = [f"`{name}`" for name, is_wrong in wrong.items() if is_wrong]
    if found:
        raise SpecError(
            f"that server speaks OpenAI's API alone, which has no words for {', '.join(found)}",
            where=found[0].strip("`"),
            hint="leave them out of the spec, or send it to a server of tunefork",
        )


def _tell_kept(kept: Mapping[str, Any], sink: Sink) -> None:
    names = ", ".join(f"`{name}`" for name, value in kept.items() if value is not None)
    if names:
        sink(Warned(f"{names}: not sent, so what they measure is not measured there"))


def _rows(project: Project, folder: Path, sink: Sink) -> dict[str, tuple[Path, str]]:
    """Write training and validation rows as they are sent.

    Raises:
        DataError: A row cannot be sent as it is.
    """
    spec = project.spec
    form = _FORMATS[kinds_of(spec.objective.name)[0]]
    found = {}
    for param, name in (
        ("training_file", spec.data.first),
        ("validation_file", spec.data.validation),
    ):
        if name is None:
            continue
        out = folder / f"{param.removesuffix('_file')}.jsonl"
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        convert(project.path(name), form, out, mapping=project.mapping, is_strict=True, sink=sink)
        found[param] = (out, "fine-tune")
    return found


def _golden(project: Project, folder: Path) -> Path:
    assert project.spec.golden is not None, "asked for"
    path = project.path(project.spec.golden)
    load_golden(path)  # says what is wrong with it
    lines = []
    for record in scan_records(path):
        if isinstance(record, DataError):
            raise record
        lines.append(record.fields)
    out = folder / "golden.jsonl"
    write_lines(out, lines)
    return out


def _leave_out(files: Mapping[str, tuple[Path, str]], questions: Prompts) -> None:
    """Drop the rows that ask golden questions: that server could not know that it must not."""
    for path, _ in files.values():
        rows = read_lines(path)
        write_lines(path, [row for row in rows if not _asks(row, questions)])


def _spread_items(files: Mapping[str, tuple[Path, str]]) -> None:
    """Write prompts as that API has them: what is known of an answer stands beside the turns."""
    for path, _ in files.values():
        rows = [{**row["item"], "messages": row["prompt"]} for row in read_lines(path)]
        write_lines(path, rows)


def _asks(row: Mapping[str, Any], questions: Prompts) -> bool:
    turns = row.get("messages") or row.get("prompt") or row.get("input", {}).get("messages", [])
    asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    return any(isinstance(text, str) and text in questions for text in asked)
