"""Write down what exists: bases, runs, models as bundles, and what was measured of them.

Each function takes a session of `Registry.writing` and files that were looked at before. To write
the same thing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.errors import RunError
from tunefork.core.hashing import hash_json
from tunefork.registry.files import Seen, add_folder, insert
from tunefork.registry.names import free_model_name
from tunefork.registry.objects import ObjectStore
from tunefork.registry.tables import BaseModel, Evaluation, Model, Run, RunDataset, Spec, now


@dataclass(frozen=True)
class Bundle:
    """What decides a model's answers: a base and what is put on it; hashes name folders."""

    base_hash: str
    weights_hash: str | None = None
    system_prompt: str | None = None
    examples: list[Any] | None = None
    index_hash: str | None = None
    decoding: dict[str, Any] | None = None

    @property
    def hash(self) -> str:
        """One hash over all of it."""
        return hash_json(asdict(self))


@dataclass(frozen=True)
class SeenBase:
    """A base that was looked at."""

    name: str
    address: str
    hash: str
    revision: str | None
    licence: str
    files: dict[str, Seen]


@dataclass(frozen=True)
class SeenRun:
    """A finished run's folder that was looked at."""

    name: str
    path: Path
    spec: dict[str, Any]
    record: dict[str, Any]
    result: dict[str, Any]
    files: dict[str, Seen]  # all but the model
    weights: dict[str, Seen]  # the model


def add_base(session: Session, objects: ObjectStore, seen: SeenBase) -> None:
    """Write a base down."""
    known = session.get(BaseModel, seen.hash)
    if known is not None:
        known.address, known.name = seen.address, seen.name
        add_folder(session, objects, seen.files)
        return
    found = add_folder(session, objects, seen.files)
    if found != seen.hash:
        raise RunError(
            "the base changed while it was looked at",
            where=seen.address,
            hint="restore its files; nothing may write to them during a run",
        )
    row = BaseModel(
        hash=seen.hash,
        name=seen.name,
        address=seen.address,
        revision=seen.revision,
        licence=seen.licence,
        created=now(),
    )
    insert(session, row)


def knows_base(session: Session, base_hash: str, address: str) -> bool:
    """Say whether a base is written down already, at this place."""
    known = session.get(BaseModel, base_hash)
    return known is not None and known.address == address


def add_run(session: Session, objects: ObjectStore, seen: SeenRun, data: Mapping[str, str]) -> str:
    """Write a finished run down, and the model it made under the same name, which is returned.

    Args:
        session: Of `Registry.writing`.
        objects: Where copies go.
        seen: The run.
        data: The version of each data file, by its role.
    """
    folder_hash = add_folder(session, objects, seen.files)
    query = select(Run).where(Run.path == str(seen.path), Run.identity == seen.record["identity"])
    row = session.scalars(query).first()
    if row is None:
        row = Run(
            name=free_model_name(session, seen.name),
            path=str(seen.path),
            identity=seen.record["identity"],
            project=seen.record["project"],
            spec_hash=_add_spec(session, seen.spec),
            base_hash=seen.record["base"]["hash"],
            data_hash=seen.record["data_hash"],
            code_hash=seen.record["code_hash"],
            environment=seen.record["environment"],
            result=seen.result,
            folder_hash=folder_hash,
            created=now(),
        )
        insert(session, row)
        for role, version in data.items():
            insert(session, RunDataset(run=row.name, role=role, version=version))
    else:
        row.folder_hash, row.result = folder_hash, seen.result
    bundle = Bundle(row.base_hash, weights_hash=add_folder(session, objects, seen.weights))
    add_model(session, row.name, bundle, run=row.name)
    return row.name


def _add_spec(session: Session, content: dict[str, Any]) -> str:
    address = hash_json(content)
    if session.get(Spec, address) is None:
        insert(session, Spec(hash=address, content=content, created=now()))
    return address


def add_model(session: Session, name: str, bundle: Bundle, *, run: str | None = None) -> None:
    """Write a model down; what it is made of replaces what it was under this name."""
    row = session.get(Model, name)
    is_new = row is None
    if row is None:
        row = Model(name=name, created=now())
    row.run = run
    row.base_hash = bundle.base_hash
    row.weights_hash = bundle.weights_hash
    row.system_prompt = bundle.system_prompt
    row.examples = bundle.examples
    row.index_hash = bundle.index_hash
    row.decoding = bundle.decoding
    row.bundle_hash = bundle.hash
    if is_new:
        insert(session, row)


def add_evaluation(
    session: Session,
    model: str,
    result: dict[str, Any],
    golden: str | None,
    *,
    rung: str = "tuned",
) -> None:
    """Write down what was measured of a model, once.

    Args:
        session: Of `Registry.writing`.
        model: The model's name.
        result: What was found: `verdict`, `reasons`, `scores` by rung, `gain` and `forgetting`,
            as `run --json` prints them; the verdict is None where nothing was compared.
        golden: The version of the golden questions.
        rung: The model's own score among `scores`.
    """
    query = select(Evaluation).where(Evaluation.model == model).order_by(Evaluation.number)
    known = list(session.scalars(query))
    if known and (known[-1].result, known[-1].golden) == (result, golden):
        return
    number = len(known) + 1
    own = result["scores"].get(rung)
    insert(
        session,
        Evaluation(
            id=f"{model}#{number}",
            model=model,
            number=number,
            golden=golden,
            verdict=result["verdict"],
            score=own["score"] if own else None,
            result=result,
            created=now(),
        ),
    )
