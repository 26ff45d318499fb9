"""What the registry says, as plain data: lists, and single entries."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.registry.aliases import current_aliases, events_of, verdict_of
from tunefork.registry.files import files_of
from tunefork.registry.names import find_model, find_run, find_version
from tunefork.registry.tables import (
    AliasEvent,
    BaseModel,
    Dataset,
    DatasetVersion,
    Evaluation,
    Model,
    Run,
    RunDataset,
    Spec,
)


def list_datasets(session: Session) -> list[dict[str, Any]]:
    """Return each dataset with its newest version."""
    query = select(DatasetVersion).order_by(DatasetVersion.dataset, DatasetVersion.number)
    newest = {each.dataset: each for each in session.scalars(query)}
    return [
        {
            "name": dataset.name,
            "version": newest[dataset.name].id,
            "rows": newest[dataset.name].rows,
            "path": dataset.path,
            "created": newest[dataset.name].created,
        }
        for dataset in session.scalars(select(Dataset).order_by(Dataset.name))
    ]


def show_dataset(session: Session, name: str) -> dict[str, Any]:
    """Return a version, the history before it, and the runs trained on it."""
    version = find_version(session, name)
    runs = select(RunDataset).where(RunDataset.version == version.id).order_by(RunDataset.run)
    return {
        **describe_version(session, version),
        "history": history(session, version),
        "runs": [{"run": each.run, "role": each.role} for each in session.scalars(runs)],
    }


def list_runs(session: Session) -> list[dict[str, Any]]:
    """Return each run, the newest first."""
    query = select(Run, BaseModel).join(BaseModel, BaseModel.hash == Run.base_hash)
    return [
        {
            "name": run.name,
            "project": run.project,
            "base": base.name,
            "strategy": run.result["strategy"]["name"],
            "validation_loss": run.result["validation_loss"],
            "path": run.path,
            "created": run.created,
        }
        for run, base in session.execute(query.order_by(Run.created.desc()))
    ]


def show_run(session: Session, name: str) -> dict[str, Any]:
    """Return all of a run: its spec, base, data, environment and result."""
    run = find_run(session, name)
    return {
        "name": run.name,
        "project": run.project,
        "path": run.path,
        "identity": run.identity,
        "base": describe_base(session, run.base_hash),
        "data": run_data(session, run),
        "data_hash": run.data_hash,
        "code_hash": run.code_hash,
        "environment": run.environment,
        "spec": run_spec(session, run),
        "result": {
            key: value for key, value in run.result.items() if key not in ("preview", "settings")
        },
        "settings": run.result["settings"],
        "created": run.created,
    }


def list_models(session: Session) -> list[dict[str, Any]]:
    """Return each model with its aliases and what was last measured, the newest first."""
    aliases = current_aliases(session)
    query = select(Model, BaseModel).join(BaseModel, BaseModel.hash == Model.base_hash)
    return [
        {
            "name": model.name,
            "base": base.name,
            "aliases": [name for name, each in aliases.items() if each.model == model.name],
            "verdict": verdict_of(session, model.name),
            "score": (last := last_evaluation(session, model.name)) and last.score,
            "run": model.run,
            "created": model.created,
        }
        for model, base in session.execute(query.order_by(Model.created.desc()))
    ]


def show_model(session: Session, name: str) -> dict[str, Any]:
    """Return a model's bundle, evaluations, and the history of its aliases."""
    model = find_model(session, name)
    aliases = current_aliases(session)
    evaluations = select(Evaluation).where(Evaluation.model == model.name)
    return {
        "name": model.name,
        "run": model.run,
        "bundle": {
            "base": describe_base(session, model.base_hash),
            "weights": _files(session, model.weights_hash),
            "system_prompt": model.system_prompt,
            "examples": model.examples,
            "index": _files(session, model.index_hash),
            "decoding": model.decoding,
            "hash": model.bundle_hash,
        },
        "evaluations": [
            describe_evaluation(each)
            for each in session.scalars(evaluations.order_by(Evaluation.number))
        ],
        "aliases": {
            alias: [_event(session, each) for each in events_of(session, alias)]
            for alias, event in aliases.items()
            if event.model == model.name or alias == name
        },
        "created": model.created,
    }


def history(session: Session, version: DatasetVersion) -> list[dict[str, Any]]:
    """Return a version and all before it, the newest first, with what changed in each."""
    found, each = [], version
    while True:
        found.append({"version": each.id, "rows": each.rows, "changes": each.changes})
        parent = session.get(DatasetVersion, each.parent) if each.parent else None
        if parent is None:
            return found
        each = parent


def describe_version(session: Session, version: DatasetVersion) -> dict[str, Any]:
    """Return what a version is."""
    return {
        "version": version.id,
        "dataset": version.dataset,
        "rows": version.rows,
        "parent": version.parent,
        "changes": version.changes,
        "hash": version.folder_hash,
        "files": _files(session, version.folder_hash),
        "created": version.created,
    }


def describe_base(session: Session, base_hash: str) -> dict[str, Any]:
    """Return what a base is."""
    base = session.get_one(BaseModel, base_hash)
    files = files_of(session, base.hash)
    return {
        "name": base.name,
        "hash": base.hash,
        "address": base.address,
        "revision": base.revision,
        "licence": base.licence,
        "bytes": sum(blob.size_bytes for _, blob in files),
    }


def describe_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return what was measured, in short."""
    result = evaluation.result
    return {
        "id": evaluation.id,
        "verdict": evaluation.verdict,
        "score": evaluation.score,
        "reasons": result["reasons"],
        "scores": result["scores"],
        "gain": result["gain"],
        "forgetting": result["forgetting"],
        "golden": evaluation.golden,
        "created": evaluation.created,
    }


def last_evaluation(session: Session, model: str) -> Evaluation | None:
    """Return what was measured last of a model."""
    query = select(Evaluation).where(Evaluation.model == model).order_by(Evaluation.number.desc())
    return session.scalars(query).first()


def run_data(session: Session, run: Run) -> list[dict[str, Any]]:
    """Return the data that a run was trained on, by role."""
    query = (
        select(RunDataset, DatasetVersion)
        .join(DatasetVersion, DatasetVersion.id == RunDataset.version)
        .where(RunDataset.run == run.name)
        .order_by(RunDataset.role)
    )
    return [
        {
            "role": each.role,
            **describe_version(session, version),
            "history": history(session, version),
        }
        for each, version in session.execute(query)
    ]


def run_spec(session: Session, run: Run) -> dict[str, Any]:
    """Return a run's resolved spec."""
    return session.get_one(Spec, run.spec_hash).content


def _files(session: Session, folder_hash: str | None) -> list[dict[str, Any]]:
    if folder_hash is None:
        return []
    return [
        {
            "name": file.name,
            "hash": blob.hash,
            "bytes": blob.size_bytes,
            "kept": blob.is_kept,
            "path": file.path,
        }
        for file, blob in files_of(session, folder_hash)
    ]


def _event(session: Session, event: AliasEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "action": event.action,
        "model": event.model,
        "verdict": verdict_of(session, event.model, until=event.created),
        "who": event.who,
        "when": event.created,
        "reason": event.reason,
    }
