"""Small projects and small random bases, for tests of the workflow and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tunefork.core.hashing import hash_file
from tunefork.evaluation import ProbeItem, SafetyItem, load_safety

THINGS = ("cat", "dog", "hen", "cow", "fox", "owl", "bee", "ant", "pig", "elk", "bat", "rat")


def rows(count: int = 24) -> list[dict[str, Any]]:
    """Return training rows that a tokenizer of single characters can spell."""
    return [
        {
            "user": f"who is {THINGS[at % len(THINGS)]} {'abcdefgh'[at % 8]}?",
            "assistant": f"a {THINGS[at % len(THINGS)]} that naps.",
        }
        for at in range(count)
    ]


def questions(count: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "question": f"what is the {thing}?",
            "reference": "naps",
            "grader": "contains",
            "group": thing,
        }
        for thing in THINGS[:count]
    ]


def write_lines(path: Path, values: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def write_project(folder: Path, base: Path | str, count: int = 24, **spec: Any) -> Path:
    """Write a project and return its spec's path; keyword arguments are keys of the spec."""
    write_lines(folder / "train.jsonl", rows(count))
    write_lines(folder / "golden.jsonl", questions())
    values = {
        "goal": "says that things nap",
        "base": str(base),
        "data": {"train": "train.jsonl"},
        "golden": "golden.jsonl",
        "training": {"epochs": 2, "batch_tokens": 256},
        **spec,
    }
    path = folder / "tunefork.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def files_of(folder: Path) -> dict[str, str]:
    """Return the hash of each file below a folder, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def few_requests() -> list[SafetyItem]:
    """Return a few requests of the safety probe, in the place of all."""
    return load_safety()[::16]


def small_probe(half: str) -> tuple[ProbeItem, ...]:
    """Return a general probe of a few items, in the place of the bundled one."""
    return tuple(
        ProbeItem(f"is a {thing} big?", ("yes", "no"), at % 2, thing, "sealed")
        for at, thing in enumerate(THINGS[:6])
    )
