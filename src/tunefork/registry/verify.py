"""Recompute every hash, and name what is not as it was written: one flipped byte is found.

Rows by the hash that each carries; kept copies by their address; files that stayed where they
are, such as bases and run folders, by the hash that they had. A run's own files may be deleted
where copies are kept; altered they are told. The user's data files may be edited: that makes the
next version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Table, func, select, text
from sqlalchemy.exc import DatabaseError, NoResultFound
from sqlalchemy.orm import Session

from tunefork.core.errors import InputError
from tunefork.core.hashing import hash_file, hash_json
from tunefork.registry.database import Registry
from tunefork.registry.files import files_of
from tunefork.registry.tables import (
    AliasEvent,
    BaseModel,
    Blob,
    DatasetVersion,
    Folder,
    Model,
    Row,
    Run,
    Spec,
    hash_row,
)


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written."""

    kind: str  # database, row, copy, base, data, run or model
    name: str
    problem: str


@dataclass(frozen=True)
class _Owner:
    """What a folder of files belongs to."""

    kind: str
    name: str
    is_watched: bool  # its files where they lie count even where copies are kept


def verify(registry: Registry) -> dict[str, Any]:
    """Return what `verify --json` prints: how much was checked, and all damage found."""
    checked = {"rows": 0, "copies": 0, "files": 0, "bytes": 0}
    damage: list[Damage] = []
    with registry.reading() as session:
        damage += _check_database(session)
        damage += _check_rows(session, checked)
        if not damage:  # damaged rows cannot tell what to look for
            damage += _check_meaning(session)
            damage += _check_copies(session, registry, checked)
            damage += _check_files(session, checked)
    unchecked = any(each.kind in ("database", "row") for each in damage)
    return {
        "sound": not damage,
        "checked": checked,
        "damage": [asdict(each) for each in damage],
        "files_skipped": unchecked,
    }


def _check_database(session: Session) -> Iterator[Damage]:
    """Let SQLite look at its own pages, and at rows that name rows which are gone."""
    if session.get_bind().dialect.name != "sqlite":
        return
    try:
        for (answer,) in session.execute(text("PRAGMA integrity_check")):
            if answer != "ok":
                yield Damage("database", "registry.db", str(answer))
        for table, _, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
            yield Damage("database", str(table), f"a row names one of `{parent}` that is gone")
    except DatabaseError as error:
        yield Damage("database", "registry.db", str(error.orig))


def _check_rows(session: Session, checked: dict[str, int]) -> Iterator[Damage]:
    for table in Row.metadata.sorted_tables:
        try:
            rows = [dict(row) for row in session.execute(select(table)).mappings()]
        except (DatabaseError, ValueError):
            yield from _check_singly(session, table)
            continue
        for row in rows:
            checked["rows"] += 1
            if row["row_hash"] != hash_row(table.name, row):
                yield Damage("row", _row_name(table, row), "its values are not as written")


def _check_singly(session: Session, table: Table) -> Iterator[Damage]:
    """Find the rows of a table whose bytes are not even text or JSON any more."""
    try:
        count = session.scalar(select(func.count()).select_from(table)) or 0
    except DatabaseError as error:
        yield Damage("database", table.name, f"it cannot be read: {error.orig}")
        return
    for number in range(count):
        query = select(table).order_by(*table.primary_key).limit(1).offset(number)
        try:
            row = session.execute(query).mappings().one()
        except (DatabaseError, ValueError, NoResultFound) as error:
            yield Damage("row", f"{table.name}, row {number + 1}", f"it cannot be read: {error}")
            continue
        if row["row_hash"] != hash_row(table.name, dict(row)):
            yield Damage("row", _row_name(table, dict(row)), "its values are not as written")


def _row_name(table: Table, row: dict[str, Any]) -> str:
    return f"{table.name} {'/'.join(str(row[column.name]) for column in table.primary_key)}"


def _check_meaning(session: Session) -> Iterator[Damage]:
    """Check the hashes that stand for several rows, which a removed row would leave wrong."""
    for folder in session.scalars(select(Folder)):
        files = {file.name: blob.hash for file, blob in files_of(session, folder.hash)}
        if hash_json(files) != folder.hash:
            yield Damage("row", f"folders {folder.hash}", "its list of files is not as written")
    for spec in session.scalars(select(Spec)):
        if hash_json(spec.content) != spec.hash:
            yield Damage("row", f"specs {spec.hash}", "the spec is not the one of this hash")
    before: AliasEvent | None = None
    query = select(AliasEvent).order_by(AliasEvent.alias, AliasEvent.number)
    for each in session.scalars(query):
        if before is not None and before.alias != each.alias:
            before = None
        expected = (before.row_hash, before.number + 1) if before else (None, 1)
        if (each.previous_hash, each.number) != expected:
            name = f"alias_events {each.alias}/{each.number}"
            yield Damage("row", name, "the event before it is gone or altered")
        before = each


def _check_copies(
    session: Session, registry: Registry, checked: dict[str, int]
) -> Iterator[Damage]:
    for blob in session.scalars(select(Blob).where(Blob.is_kept)):
        path = registry.objects.path(blob.hash)
        checked["copies"] += 1
        checked["bytes"] += blob.size_bytes
        problem = _problem(path, blob.hash)
        if problem:
            yield Damage("copy", str(path), problem)


def _check_files(session: Session, checked: dict[str, int]) -> Iterator[Damage]:
    for folder_hash, owner in _owners(session):
        for file, blob in files_of(session, folder_hash):
            path = Path(file.path)
            if blob.is_kept and not (owner.is_watched and path.exists()):
                continue
            checked["files"] += 1
            checked["bytes"] += blob.size_bytes
            problem = _problem(path, blob.hash)
            if problem:
                yield Damage(owner.kind, owner.name, f"{path}: {problem}")


def _owners(session: Session) -> Iterator[tuple[str, _Owner]]:
    for base in session.scalars(select(BaseModel)):
        yield base.hash, _Owner("base", base.name, True)
    for version in session.scalars(select(DatasetVersion)):
        yield version.folder_hash, _Owner("data", version.id, False)
    for run in session.scalars(select(Run)):
        yield run.folder_hash, _Owner("run", run.name, True)
    for model in session.scalars(select(Model)):
        for folder_hash in (model.weights_hash, model.index_hash):
            if folder_hash is not None:
                yield folder_hash, _Owner("model", model.name, True)


def _problem(path: Path, expected: str) -> str | None:
    if not path.is_file():
        return "it is gone"
    try:
        found = hash_file(path)
    except InputError as error:
        return error.message
    return None if found == expected else "its content is not as written"
