"""Two data sets, runs or models compared, as plain data."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from tunefork.registry.aliases import verdict_of
from tunefork.registry.datasets import rows_of
from tunefork.registry.files import files_of
from tunefork.registry.names import find_model, find_run, find_version
from tunefork.registry.objects import ObjectStore
from tunefork.registry.rows import compare_rows, examples
from tunefork.registry.tables import Run
from tunefork.registry.views import last_evaluation, run_data, run_spec

_SHOWN_ROWS = 5


def diff_datasets(
    session: Session, objects: ObjectStore, before: str, after: str
) -> dict[str, Any]:
    """Compare the rows of two versions, or only their hashes where they are too large."""
    old, new = find_version(session, before), find_version(session, after)
    old_rows, new_rows = rows_of(session, objects, old), rows_of(session, objects, new)
    found: dict[str, Any] = {
        "before": old.id,
        "after": new.id,
        "same": old.folder_hash == new.folder_hash,
        "rows": None,
        "added": [],
        "removed": [],
    }
    if old_rows is not None and new_rows is not None:
        found["rows"] = compare_rows(old_rows, new_rows)
        found["added"] = examples(new_rows - old_rows, _SHOWN_ROWS)
        found["removed"] = examples(old_rows - new_rows, _SHOWN_ROWS)
    return found


def diff_runs(session: Session, before: str, after: str) -> dict[str, Any]:
    """Return what differs between two runs: what went in, and what came out."""
    pair = [_comparable(session, find_run(session, name)) for name in (before, after)]
    return _diff(before, after, *pair)


def diff_models(session: Session, before: str, after: str) -> dict[str, Any]:
    """Return what differs between two models: bundle, run and scores."""
    pair = []
    for name in (before, after):
        model = find_model(session, name)
        last = last_evaluation(session, model.name)
        run = session.get(Run, model.run) if model.run else None
        pair.append(
            {
                "model": model.name,
                "base": model.base_hash,
                # File by file: the weights may be the same where what is noted beside them is not.
                "weights": _file_hashes(session, model.weights_hash),
                "system_prompt": model.system_prompt,
                "examples": model.examples,
                "index": model.index_hash,
                "decoding": model.decoding,
                "verdict": verdict_of(session, model.name),
                "score": last.score if last else None,
                **({"run": _comparable(session, run)} if run else {}),
            }
        )
    return _diff(before, after, *pair)


def _file_hashes(session: Session, folder_hash: str | None) -> dict[str, str]:
    if folder_hash is None:
        return {}
    return {file.name: blob.hash for file, blob in files_of(session, folder_hash)}


def _comparable(session: Session, run: Run) -> dict[str, Any]:
    results = ("steps", "train_loss", "validation_loss", "base_validation_loss", "seconds")
    return {
        "base": run.base_hash,
        "data": {each["role"]: each["version"] for each in run_data(session, run)},
        "code": run.code_hash,
        "environment": run.environment,
        "spec": run_spec(session, run),
        "result": {key: run.result[key] for key in results},
    }


def _diff(before: str, after: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    keys = [*flat_old, *(key for key in flat_new if key not in flat_old)]
    changes = {
        key: {"before": flat_old.get(key), "after": flat_new.get(key)}
        for key in keys
        if flat_old.get(key) != flat_new.get(key)
    }
    return {"before": before, "after": after, "same": not changes, "changes": changes}


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, each in value.items():
        if isinstance(each, dict) and each:
            found += _flat(each, f"{prefix}{key}.")
        else:
            found.append((prefix + key, each))
    return found
