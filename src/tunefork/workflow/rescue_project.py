"""A project of what was rescued: a spec, the rows, and the model's answers as what to reach."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tunefork.core.errors import DataError
from tunefork.core.events import Noted, Sink, Warned
from tunefork.core.files import write_text, writing
from tunefork.workflow.golden_offer import offer_golden
from tunefork.workflow.json_lines import write_lines
from tunefork.workflow.rescue_answers import Asking
from tunefork.workflow.spec import load_project

_GAIN = 0.1  # that the golden questions are to show
_OBJECTIVES = {"supervised": "sft", "dpo": "dpo", "reinforcement": "grpo"}
_REPLAY = 0.2  # as `init` has it
_SPEC = "tunefork.yaml"


def write_project(
    folder: Path,
    base: str,
    job: Mapping[str, Any],
    files: Mapping[str, Path],
    wanted: Sequence[Asking],
    answers: Mapping[str, Mapping[str, Any]],
    sink: Sink,
) -> dict[str, Any]:
    """Write what is not there yet; a spec that is there is left as it is.

    Args:
        folder: The project's.
        base: The base to tune.
        job: The job as the service tells it.
        files: Training and validation rows as they came.
        wanted: The prompts that the model was to be asked.
        answers: What it said, by their keys.
        sink: Told what could not be made.

    Raises:
        DataError: The rows cannot be used.
    """
    method = (job.get("method") or {}).get("type") or "supervised"
    with writing(folder):
        shutil.copyfile(files["training_file"], folder / "train.jsonl")
    said = [(each, row) for each in wanted if (row := _row(each, answers.get(each.key)))]
    n_lost = sum(each.key in answers for each in wanted) - len(said)
    if n_lost:
        what = f"{n_lost:,} of {len(answers):,} answers were refused, empty or cut short"
        sink(Warned(f"{what}: they are left out"))
    golden, left = _golden(folder, said, sink)
    held_out = left if method == "supervised" else []
    validation: str | None = None
    if held_out:
        write_lines(folder / "validation.jsonl", held_out)
        validation = "validation.jsonl"
    elif "validation_file" in files:
        with writing(folder):
            shutil.copyfile(files["validation_file"], folder / "validation.jsonl")
        validation = "validation.jsonl"
    if golden:
        write_lines(folder / "golden.jsonl", golden)
    spec = _spec(base, job, method, validation, bool(golden))
    path = folder / _SPEC
    if path.is_file():
        sink(Noted(f"{path} is left as it is"))
    else:
        write_text(path, _header(job) + yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    load_project(path)
    return {"golden": len(golden), "validation": len(held_out), "spec": str(path)}


def _row(asking: Asking, answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a prompt with its answer as a row to learn from; None where it has none of worth."""
    if answer is None or "refused" in answer or answer.get("finish_reason") == "length":
        return None
    content, calls = answer.get("content"), answer.get("tool_calls")
    if not (content or calls):
        return None
    turn: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        turn["tool_calls"] = calls
    tools = {"tools": list(asking.tools)} if asking.tools else {}
    return {"messages": [*asking.messages, turn], **tools}


def _golden(
    folder: Path, said: Sequence[tuple[Asking, dict[str, Any]]], sink: Sink
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Divide the answers into golden questions and validation rows, none nearly in both."""
    if not said:
        return [], []
    held_out, reason = [row for asking, row in said if asking.is_held_out], ""
    for rows in (held_out, [row for _, row in said]):
        path = folder / "service" / "recorded.jsonl"
        write_lines(path, rows)
        try:
            offer = offer_golden(path, gain=_GAIN, sink=sink)
        except DataError as error:
            reason = error.message
            continue
        asked = {_key(row) for row in held_out}
        return list(offer.golden), [row for row in offer.training if _key(row) in asked]
    sink(Warned(f"no golden questions: {reason}"))
    return [], held_out


def _key(row: Mapping[str, Any]) -> str:
    return str([(turn["role"], turn.get("content")) for turn in row["messages"][:-1]])


def _spec(
    base: str, job: Mapping[str, Any], method: str, validation: str | None, has_golden: bool
) -> dict[str, Any]:
    given = job.get("hyperparameters") or {}
    inner = (job.get("method") or {}).get(method) or {}
    own = {**given, **(inner.get("hyperparameters") or {})}
    objective: dict[str, Any] = {"name": _OBJECTIVES.get(method, "sft")}
    if isinstance(own.get("beta"), int | float):
        objective["beta"] = own["beta"]
    if method == "reinforcement":
        objective["grader"] = inner.get("grader")
    data: dict[str, Any] = {"train": "train.jsonl", "replay": _REPLAY}
    if validation is not None:
        data["validation"] = validation
    training: dict[str, Any] = {"seed": int(job.get("seed") or 0)}
    if isinstance(given.get("n_epochs"), int):
        training["epochs"] = given["n_epochs"]
    return {
        "goal": f"Answers as {job['fine_tuned_model']} did",
        "base": base,
        "data": data,
        **({"golden": "golden.jsonl"} if has_golden else {}),
        "objective": objective,
        "training": training,
    }


def _header(job: Mapping[str, Any]) -> str:
    model = str(job["fine_tuned_model"]).replace("\n", " ")
    return (
        f"# Rescued from {model}, made of {job.get('model')}.\n"
        "# Its batch size and learning rate belong to another base: they stand in\n"
        "# service/job.json, and are derived anew here.\n"
    )
