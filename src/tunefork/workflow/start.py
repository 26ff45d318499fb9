"""`init`: start a project from a spec to fill in, a complete example, or a goal and rows."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tunefork.core.errors import SpecError, UsageError, did_you_mean
from tunefork.core.files import write_text, writing
from tunefork.workflow.spec import Project, load_project

if TYPE_CHECKING:
    from tunefork.workflow.golden_offer import Offer

_EXAMPLES = Path(__file__).parents[1] / "examples"
_GOAL = "goal: Answers our customers' questions in two friendly sentences\n"
_SPEC = f"""\
# What the tuned model should do, in words that can be checked.
{_GOAL}
# `tiny` comes with tunefork and shows the machinery. For real work name a folder with a
# Hugging Face model, or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct.
base: tiny

data:
  # A few hundred examples: JSON lines with `messages`, `user` and `assistant`, `prompt` and
  # `completion`, or `instruction` and `output`; CSV and JSON too.
  train: train.jsonl
  # Columns with other names:
  # map: {{user: question, assistant: reply}}
  # Share of general rows mixed in, so that the model keeps what it knew.
  replay: 0.2

# Questions that are never trained on, each with a grader: how the result is judged.
golden: golden.jsonl
"""
_TRAIN = """\
{"messages": [{"role": "user", "content": "Where is my order?"}, \
{"role": "assistant", "content": "I am happy to check. Please tell me your order number."}]}
"""
_GOLDEN = """\
{"question": "I want to know where my order is", "reference": "order number", "grader": "contains"}
"""


def examples() -> list[str]:
    """Return the names of the bundled examples."""
    return sorted(path.name for path in _EXAMPLES.iterdir() if (path / "tunefork.yaml").is_file())


def example_project(name: str) -> Project:
    """Return a bundled example, to be run where it lies."""
    return load_project(_example_folder(name))


def start_project(folder: Path, example: str | None, goal: str | None = None) -> dict[str, Any]:
    """Write a project into a new or empty folder.

    Args:
        folder: The folder.
        example: The bundled example to copy.
        goal: What the spec to fill in has as its goal.

    Raises:
        SpecError: There is something in the folder.
        UsageError: There is no such example.
    """
    require_empty(folder)
    if example is not None:
        source = _example_folder(example)
        with _all_or_nothing(folder), writing(folder):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        following = f"tunefork run {folder}"
    else:
        spec = _SPEC if goal is None else _SPEC.replace(_GOAL, _yaml({"goal": goal}))
        with _all_or_nothing(folder):
            for name, text in (
                ("tunefork.yaml", spec),
                ("train.jsonl", _TRAIN),
                ("golden.jsonl", _GOLDEN),
            ):
                write_text(folder / name, text)
        following = f"put your examples into {folder / 'train.jsonl'}, then tunefork run {folder}"
    return _started(folder, following)


def start_with_rows(folder: Path, goal: str, base: str, offer: Offer) -> dict[str, Any]:
    """Write a project from a goal and rows that are divided already.

    Raises:
        SpecError: There is something in the folder.
    """
    require_empty(folder)
    values = {
        "goal": goal,
        "base": base,
        "data": {"train": "train.jsonl", "replay": 0.2},
        "golden": "golden.jsonl",
    }
    with _all_or_nothing(folder):
        write_text(folder / "tunefork.yaml", _yaml(values))
        write_text(folder / "train.jsonl", _lines(offer.training))
        write_text(folder / "golden.jsonl", _lines(offer.golden))
    return _started(folder, f"read {folder / 'golden.jsonl'}, then tunefork run {folder}")


def require_empty(folder: Path) -> None:
    """Refuse a folder with something in it.

    Raises:
        SpecError: There is something in it, or it is a file.
    """
    with writing(folder):
        if folder.exists() and not folder.is_dir():
            raise SpecError("this is a file, not a folder", where=folder, hint="name a new folder")
        if folder.exists() and any(folder.iterdir()):
            raise SpecError("the folder is not empty", where=folder, hint="name a new folder")


def _started(folder: Path, following: str) -> dict[str, Any]:
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    return {"folder": str(folder), "files": files, "next": following}


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Empty the folder again, where filling it fails; it stays where it is, for a shell in it."""
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if folder.is_dir():
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _example_folder(name: str) -> Path:
    if name not in examples():
        hint = did_you_mean(name, examples()) or f"there are: {', '.join(examples())}"
        raise UsageError(f"there is no example `{name}`", hint=hint)
    return _EXAMPLES / name
