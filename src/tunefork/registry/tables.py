"""The tables of the registry: what exists and where it came from.

Nothing here is SQLite's own, so that a Postgres URL works. Every row carries a hash over all its
other values, made when it is written; `verify` makes it anew. Times are UTC text, which sorts,
and which every database gives back as it was.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Connection, Double, ForeignKey, String, Text, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, mapped_column

from tunefork.core.hashing import hash_json

_HASH = String(71)  # `sha256:` and 64 digits
_NAME = String(255)
_TIME = String(32)
_JSON = JSON(none_as_null=True)


def now() -> str:
    """Return the time as the registry writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def hash_row(table: str, values: Mapping[str, Any]) -> str:
    """Return the hash that a row of these values carries."""
    return hash_json([table, {key: value for key, value in values.items() if key != "row_hash"}])


class Row(DeclarativeBase):
    """A row of any table."""

    row_hash: Mapped[str] = mapped_column(_HASH)

    def values(self) -> dict[str, Any]:
        """Return all that it says, by column."""
        columns = self.__mapper__.column_attrs
        return {each.key: getattr(self, each.key) for each in columns if each.key != "row_hash"}


@event.listens_for(Row, "before_insert", propagate=True)
@event.listens_for(Row, "before_update", propagate=True)
def _seal(mapper: Mapper[Row], connection: Connection, row: Row) -> None:
    row.row_hash = hash_row(row.__tablename__, row.values())


class Blob(Row):
    """The content of a file: kept as a copy, or only known by its hash."""

    __tablename__ = "blobs"
    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    is_kept: Mapped[bool]


class Folder(Row):
    """Files that belong together; the hash is over their names and contents."""

    __tablename__ = "folders"
    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    created: Mapped[str] = mapped_column(_TIME)


class FolderFile(Row):
    """One file of a folder, and where it lay when it was last seen."""

    __tablename__ = "folder_files"
    folder_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("folders.hash"), primary_key=True)
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    blob_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("blobs.hash"), index=True)
    path: Mapped[str] = mapped_column(Text)


class Dataset(Row):
    """A data file of the user's, known by where it lies; its contents are its versions."""

    __tablename__ = "datasets"
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    created: Mapped[str] = mapped_column(_TIME)


class DatasetVersion(Row):
    """A dataset as it was once; `id` is `NAME@NUMBER`."""

    __tablename__ = "dataset_versions"
    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    dataset: Mapped[str] = mapped_column(_NAME, ForeignKey("datasets.name"), index=True)
    number: Mapped[int]
    parent: Mapped[str | None] = mapped_column(_NAME, ForeignKey("dataset_versions.id"))
    changes: Mapped[dict[str, Any] | None] = mapped_column(_JSON)  # rows {added, removed, same}
    folder_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("folders.hash"))
    rows: Mapped[int | None]  # None until they are counted, and where there are too many
    created: Mapped[str] = mapped_column(_TIME)


class Spec(Row):
    """A resolved spec; the hash is over its canonical JSON."""

    __tablename__ = "specs"
    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(_JSON)
    created: Mapped[str] = mapped_column(_TIME)


class BaseModel(Row):
    """A base at one revision; the hash is over every file that decides what it computes."""

    __tablename__ = "bases"
    hash: Mapped[str] = mapped_column(_HASH, ForeignKey("folders.hash"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)  # what finds it again on this machine
    revision: Mapped[str | None] = mapped_column(_NAME)  # the hub's, where it came from there
    licence: Mapped[str] = mapped_column(Text)
    created: Mapped[str] = mapped_column(_TIME)


class Run(Row):
    """A training that ended; the folder holds its record, result and curve."""

    __tablename__ = "runs"
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    identity: Mapped[str] = mapped_column(_HASH)
    project: Mapped[str] = mapped_column(Text)
    spec_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("specs.hash"))
    base_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("bases.hash"))
    data_hash: Mapped[str] = mapped_column(_HASH)  # over the tokens and weights that were seen
    code_hash: Mapped[str] = mapped_column(_HASH)
    environment: Mapped[dict[str, Any]] = mapped_column(_JSON)
    result: Mapped[dict[str, Any]] = mapped_column(_JSON)
    folder_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("folders.hash"))
    created: Mapped[str] = mapped_column(_TIME)


class RunDataset(Row):
    """Which data a run was trained on: `train` and, where it was given, `validation`."""

    __tablename__ = "run_datasets"
    run: Mapped[str] = mapped_column(_NAME, ForeignKey("runs.name"), primary_key=True)
    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    version: Mapped[str] = mapped_column(_NAME, ForeignKey("dataset_versions.id"))


class Model(Row):
    """A bundle: a base, and what makes something else of it; each part but the base optional."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    base_hash: Mapped[str] = mapped_column(_HASH, ForeignKey("bases.hash"))
    run: Mapped[str | None] = mapped_column(_NAME, ForeignKey("runs.name"))
    weights_hash: Mapped[str | None] = mapped_column(_HASH, ForeignKey("folders.hash"))
    system_prompt: Mapped[str | None] = mapped_column(Text)
    examples: Mapped[list[Any] | None] = mapped_column(_JSON)  # conversations shown before ours
    index_hash: Mapped[str | None] = mapped_column(_HASH, ForeignKey("folders.hash"))
    decoding: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    bundle_hash: Mapped[str] = mapped_column(_HASH)  # over all of the above but name and run
    created: Mapped[str] = mapped_column(_TIME)


class Evaluation(Row):
    """What was measured of a model; `id` is `MODEL#NUMBER`."""

    __tablename__ = "evaluations"
    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    model: Mapped[str] = mapped_column(_NAME, ForeignKey("models.name"), index=True)
    number: Mapped[int]
    golden: Mapped[str | None] = mapped_column(_NAME, ForeignKey("dataset_versions.id"))
    verdict: Mapped[str | None] = mapped_column(String(32))  # None where nothing was compared
    score: Mapped[float | None] = mapped_column(Double)
    result: Mapped[dict[str, Any]] = mapped_column(_JSON)
    created: Mapped[str] = mapped_column(_TIME)


class Attempt(Row):
    """One model's evidence on sealed questions: what the error budget is spent on."""

    __tablename__ = "attempts"
    questions_hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    answers_hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    number: Mapped[int]  # among the attempts on the same questions, from 1
    questions: Mapped[list[str]] = mapped_column(_JSON)  # a hash of each
    created: Mapped[str] = mapped_column(_TIME)


class AliasEvent(Row):
    """One change of an alias. What it stands for follows from its events, in their order."""

    __tablename__ = "alias_events"
    alias: Mapped[str] = mapped_column(_NAME, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    action: Mapped[str] = mapped_column(String(16))  # promote | force | rollback
    model: Mapped[str] = mapped_column(_NAME, ForeignKey("models.name"))  # what it stands for since
    who: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created: Mapped[str] = mapped_column(_TIME)
    previous_hash: Mapped[str | None] = mapped_column(_HASH)  # row hash of the event before
