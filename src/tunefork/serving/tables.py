"""The tables of a server: files, jobs, evals. Each row has an owner, and nobody sees another's.

They lie in a database of their own, `serving/serving.db` in the home folder, so that a long write
to the registry never keeps a request waiting. Nothing is SQLite's own. What is in them is for
requests; what a job is made of, and how it goes, lies in the job's folder (see `job_folder`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

RESULTS = "fine-tune-results"  # the purpose of files that jobs made
_ID = String(64)
_JSON = JSON(none_as_null=True)


class Row(DeclarativeBase):
    """A row of any table. `number` is the order in which rows were made."""


class SchemaRow(Row):
    """How the tables are laid out: one row."""

    __tablename__ = "schema"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class FileRow(Row):
    """A file that was uploaded, or made by a job; its bytes lie in a file named by the id."""

    __tablename__ = "files"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    owner: Mapped[str] = mapped_column(_ID, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[int] = mapped_column(BigInteger)
    expires: Mapped[int | None] = mapped_column(BigInteger)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(String(32))


class JobRow(Row):
    """A fine-tuning job. `state` is the API's status; `wish` what was asked of a running one."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_owner_state", "owner", "state"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    owner: Mapped[str] = mapped_column(_ID)
    state: Mapped[str] = mapped_column(String(32), index=True)
    wish: Mapped[str | None] = mapped_column(String(16))  # cancel | pause
    created: Mapped[int] = mapped_column(BigInteger)
    finished: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str] = mapped_column(Text)  # as it was asked for
    base: Mapped[str] = mapped_column(Text)  # what it stands for here
    request: Mapped[dict[str, Any]] = mapped_column(_JSON)
    training_file: Mapped[str] = mapped_column(_ID)
    validation_file: Mapped[str | None] = mapped_column(_ID)
    fingerprint: Mapped[str] = mapped_column(String(71), index=True)  # of the request
    tuned: Mapped[str | None] = mapped_column(Text, index=True)  # the model's name
    is_model_deleted: Mapped[bool] = mapped_column(default=False)
    result: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    result_file: Mapped[str | None] = mapped_column(_ID)
    error: Mapped[dict[str, Any] | None] = mapped_column(_JSON)
    # The process that works on it: a number may be given to another one later, so its start too.
    pid: Mapped[int | None]
    pid_started: Mapped[float | None] = mapped_column(Double)
    device: Mapped[str | None] = mapped_column(String(32))
    n_deaths: Mapped[int] = mapped_column(default=0)  # of workers that ended without a word


class EvalRow(Row):
    """An eval: graders, and what they mark."""

    __tablename__ = "evals"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    owner: Mapped[str] = mapped_column(_ID, index=True)
    created: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]] = mapped_column(_JSON)


class EvalRunRow(Row):
    """One run of an eval."""

    __tablename__ = "eval_runs"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    eval_id: Mapped[str] = mapped_column(_ID, index=True)
    key_id: Mapped[str | None] = mapped_column(_ID)  # whose limits count
    owner: Mapped[str] = mapped_column(_ID, index=True)
    created: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(32))
    content: Mapped[dict[str, Any]] = mapped_column(_JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(_JSON)


class EvalItemRow(Row):
    """One answer that was marked."""

    __tablename__ = "eval_items"
    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(_ID, unique=True)
    run_id: Mapped[str] = mapped_column(_ID, index=True)
    owner: Mapped[str] = mapped_column(_ID, index=True)
    content: Mapped[dict[str, Any]] = mapped_column(_JSON)
