"""Small made-up data, bases and runs, written into a registry without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.projects import rows, write_lines
from tunefork.core.hashing import hash_file, hash_json
from tunefork.registry import (
    Registry,
    SeenBase,
    SeenRun,
    add_base,
    add_data,
    add_evaluation,
    add_run,
    files_below,
    look_at,
    look_at_data,
)


def write_data(folder: Path, count: int = 6, name: str = "train.jsonl") -> Path:
    return write_lines(folder / name, rows(count))


def write_base(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "license": "mit"}))
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 20)
    return folder


def see_base(folder: Path) -> SeenBase:
    files = files_below(folder)
    address = hash_json({name: hash_file(path) for name, path in files.items()})
    return SeenBase("small", str(folder), address, None, "mit", look_at(files, keep=False))


def write_run(folder: Path, name: str, base_hash: str, weights: bytes = b"weights") -> SeenRun:
    """Write a run folder as training would leave it, and look at it."""
    path = folder / name
    (path / "model").mkdir(parents=True, exist_ok=True)
    (path / "model" / "adapter_model.safetensors").write_bytes(weights * 50)
    (path / "model" / "adapter_config.json").write_text("{}")
    spec = {
        "strategy": {"name": "lora", "rank": 4},
        "objective": "sft",
        "training": {"epochs": 1, "seed": 7},
        "data": {"train": "train.jsonl", "replay": 0.2},
        "date": "2024-05-06",
    }
    record = {
        "identity": hash_json([name, weights.decode("latin-1")]),
        "project": "small",
        "base": {"hash": base_hash},
        "data_hash": hash_json("tokens"),
        "code_hash": hash_json("code"),
        "environment": {"tunefork": "0", "threads": 1},
    }
    result = {
        "strategy": {"name": "lora"},
        "steps": 3,
        "train_loss": 1.5,
        "validation_loss": 2.0,
        "base_validation_loss": 3.0,
        "seconds": 0.5,
        "settings": [],
        "preview": [],
    }
    for file, value in (("record", record), ("spec", spec), ("result", result)):
        (path / f"{file}.json").write_text(json.dumps(value))
    names = ("record.json", "spec.json", "result.json")
    return SeenRun(
        name=name,
        path=path,
        spec=spec,
        record=record,
        result=result,
        files=look_at({each: path / each for each in names}, keep=True),
        weights=look_at(files_below(path / "model"), keep=True),
    )


def verdict(word: str = "ship", score: float = 0.75) -> dict[str, Any]:
    """Return what `run --json` prints, as far as the registry reads it."""
    return {
        "verdict": word,
        "reasons": ["it is better"],
        "scores": {"tuned": {"score": score, "low": 0.5, "high": 0.9}},
        "gain": 0.5,
        "forgetting": 0.0,
    }


def register(registry: Registry, folder: Path, name: str, weights: bytes = b"weights") -> str:
    """Write data, a base, a run and its evaluation, all of them below `folder`."""
    base = see_base(write_base(folder / "base"))
    data = look_at_data(write_data(folder))
    seen = write_run(folder, name, base.hash, weights)
    with registry.writing() as session:
        add_base(session, registry.objects, base)
        version = add_data(session, registry.objects, "small", data)
        model = add_run(session, registry.objects, seen, {"train": version})
        add_evaluation(session, model, verdict(), version)
    return model


def everything(registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    from sqlalchemy import select

    from tunefork.registry.tables import Row

    with registry.reading() as session:
        return {
            table.name: [
                dict(row)
                for row in session.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in Row.metadata.sorted_tables
        }
