"""Write down the user's data: each file is a dataset, each content that it had a version.

Rows are counted when somebody asks, from the kept copies: no training waits for it.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.errors import RunError
from tunefork.registry.database import Registry
from tunefork.registry.files import (
    Seen,
    add_folder,
    files_below,
    files_of,
    insert,
    look_at,
    write_folder,
)
from tunefork.registry.names import free_dataset_name
from tunefork.registry.objects import ObjectStore
from tunefork.registry.rows import Rows, compare_rows, read_rows
from tunefork.registry.tables import Dataset, DatasetVersion, now


@dataclass(frozen=True)
class SeenData:
    """A data file or folder that was looked at."""

    path: Path
    files: dict[str, Seen]


def look_at_data(path: Path) -> SeenData:
    """Look at a data file or folder."""
    return SeenData(path.absolute(), look_at(files_below(path), keep=True))


def add_data(
    session: Session,
    objects: ObjectStore,
    project: str,
    seen: SeenData,
    *,
    made_from: str | None = None,
) -> str:
    """Write a data file's present content down; return the version's id.

    Args:
        session: Of `Registry.writing`.
        objects: Where the copy goes.
        project: Names the dataset, where it is new.
        seen: The file.
        made_from: The version that it was made from; by default the dataset's newest.
    """
    folder_hash = add_folder(session, objects, seen.files)
    dataset = _find_dataset(session, project, seen.path, folder_hash)
    query = select(DatasetVersion).where(DatasetVersion.dataset == dataset.name)
    versions = list(session.scalars(query.order_by(DatasetVersion.number)))
    for version in versions:
        if version.folder_hash == folder_hash:
            return version.id
    number = versions[-1].number + 1 if versions else 1
    row = DatasetVersion(
        id=f"{dataset.name}@{number}",
        dataset=dataset.name,
        number=number,
        parent=made_from or (versions[-1].id if versions else None),
        changes=None,
        folder_hash=folder_hash,
        rows=None,
        created=now(),
    )
    insert(session, row)
    return row.id


def count_rows(registry: Registry) -> None:
    """Count the rows of each version that nobody has counted yet, and what changed in it.

    Those too large to keep a copy of, and those that cannot be read, stay uncounted.
    """
    query = select(DatasetVersion).where(DatasetVersion.rows.is_(None))
    with registry.reading() as session:
        waiting = list(session.scalars(query.order_by(DatasetVersion.id)))
    for version in waiting:
        with registry.reading() as session:
            rows = _readable_rows(session, registry.objects, version)
            parent = session.get(DatasetVersion, version.parent) if version.parent else None
            before = _readable_rows(session, registry.objects, parent) if parent else None
        if rows is not None:
            with registry.writing() as session:
                row = session.get_one(DatasetVersion, version.id)
                row.rows = rows.total()
                row.changes = compare_rows(before, rows) if before is not None else None


def rows_of(session: Session, objects: ObjectStore, version: DatasetVersion) -> Rows | None:
    """Return the rows of a version; None where it is too large, or cannot be read."""
    files = files_of(session, version.folder_hash)
    if not all(blob.is_kept for _, blob in files):
        return None
    with tempfile.TemporaryDirectory() as folder:
        places = write_folder(session, objects, version.folder_hash, Path(folder))
        return read_rows(next(iter(places.values())) if len(places) == 1 else Path(folder))


def _find_dataset(session: Session, project: str, path: Path, folder_hash: str) -> Dataset:
    """Return the dataset that lies here, one of the same name that was just like it, or a new."""
    known = session.scalars(select(Dataset).where(Dataset.path == str(path))).first()
    if known is not None:
        return known
    name = re.sub(r"[^\w.-]+", "-", project) + "/" + re.sub(r"[^\w.-]+", "-", path.stem)
    moved = session.scalars(
        select(Dataset)
        .join(DatasetVersion, DatasetVersion.dataset == Dataset.name)
        .where(DatasetVersion.folder_hash == folder_hash, Dataset.name == name)
    ).first()
    if moved is not None:
        moved.path = str(path)
        return moved
    row = Dataset(name=free_dataset_name(session, name), path=str(path), created=now())
    insert(session, row)
    return row


def _readable_rows(session: Session, objects: ObjectStore, version: DatasetVersion) -> Rows | None:
    try:
        return rows_of(session, objects, version)
    except RunError:  # its copy is damaged, which `verify` tells
        return None
