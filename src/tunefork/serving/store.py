"""What a server remembers: its database, and the folders beside it.

serving/serving.db     files, jobs, evals, projects, keys (see `tables`, `key_tables`)
serving/files/ID       the bytes of a file
serving/jobs/ID/       a job's folder
serving/.lock          held by the one server of this home
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from tunefork.core.errors import RunError
from tunefork.core.files import home, writing
from tunefork.registry import make_engine, reading_session, writing_session
from tunefork.serving.callers import LOCAL_USER
from tunefork.serving.errors import invalid, not_found
from tunefork.serving.ids import now
from tunefork.serving.key_tables import OrganisationRow, ProjectRow
from tunefork.serving.tables import (
    EvalItemRow,
    EvalRow,
    EvalRunRow,
    FileRow,
    JobRow,
    Row,
    SchemaRow,
)

_SCHEMA = 2
_BEFORE_KEYS = 1
_PATIENCE_MS = 5000  # for who holds the database
Kept = TypeVar("Kept", FileRow, JobRow, EvalRow, EvalRunRow, EvalItemRow)


@dataclass(frozen=True)
class Store:
    """An open store."""

    folder: Path
    engine: Engine

    @property
    def files(self) -> Path:
        """Where the bytes of files lie."""
        return self.folder / "files"

    @property
    def jobs(self) -> Path:
        """Where the folders of jobs lie."""
        return self.folder / "jobs"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees everything as it is now."""
        with _told(self.folder), reading_session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session whose changes come true together at the end, or not at all."""
        with _told(self.folder), writing_session(self.engine) as session:
            yield session


def store_folder() -> Path:
    """Return where the server of this home keeps its state."""
    return (home() / "serving").resolve()


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """Give the store in a folder, made where there is none, held until it is let go.

    Raises:
        RunError: Another server holds it, or a newer tunefork wrote it.
    """
    lock = FileLock(folder / ".lock")
    _make_folders(folder)
    with writing(folder):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(
                "another server uses this home folder",
                where=folder,
                hint="stop it, or set TUNEFORK_HOME to another folder",
            ) from None
    try:
        with shared_store(folder) as store:
            yield store
    finally:
        lock.release()


@contextlib.contextmanager
def shared_store(folder: Path) -> Iterator[Store]:
    """Give the store in a folder while a server may hold it: for what commands change in it.

    Raises:
        RunError: A newer tunefork wrote it.
    """
    _make_folders(folder)
    engine = make_engine(f"sqlite:///{folder / 'serving.db'}")
    event.listen(engine, "connect", _be_patient)
    try:
        with _told(folder):
            _lay_out(engine, folder)
        yield Store(folder, engine)
    finally:
        engine.dispose()


def _make_folders(folder: Path) -> None:
    with writing(folder):
        for place in (folder, folder / "files", folder / "jobs"):
            place.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # others' data


def _be_patient(connection: Any, record: object) -> None:  # the driver's own connection
    """Let a request wait for a lock, but not for as long as a command may."""
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")


def _lay_out(engine: Engine, folder: Path) -> None:
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL")  # readers never wait
    finally:
        connection.close()
    with writing_session(engine) as session:
        Row.metadata.create_all(session.connection())
        found = session.scalar(select(SchemaRow.version))
        if found is None:
            session.add(SchemaRow(version=_SCHEMA))
        elif found == _BEFORE_KEYS:
            session.execute(text("ALTER TABLE eval_runs ADD COLUMN key_id VARCHAR(64)"))
            session.execute(text(f"UPDATE schema SET version = {_SCHEMA}"))
        elif found != _SCHEMA:
            raise RunError(
                f"another tunefork wrote the server's state (its layout is {found})",
                where=folder,
                hint="use that version, or set TUNEFORK_HOME to another folder",
            )
        if session.scalar(select(ProjectRow).where(ProjectRow.id == LOCAL_USER.owner)) is None:
            _add_local_project(session)


def _add_local_project(session: Session) -> None:
    """Add the project whose everything is that was made without a key."""
    local, made = LOCAL_USER, now()
    session.add(OrganisationRow(id=local.organisation, name=local.owner, created=made))
    session.add(
        ProjectRow(
            id=local.owner, organisation_id=local.organisation, name=local.owner, created=made
        )
    )


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise RunError(
            f"the server's state cannot be used: {error.orig}",
            where=folder / "serving.db",
            hint="check the disk, and who else uses the folder",
        ) from error


def find(session: Session, kind: type[Kept], owner: str, name: str) -> Kept | None:
    """Return an owner's row by its id; None also where it is another's."""
    query = select(kind).where(kind.id == name, kind.owner == owner)
    return session.scalars(query).first()


def page(
    session: Session,
    query: Any,  # a select of rows
    kind: type[Kept],
    *,
    owner: str,
    after: str | None,
    limit: int,
    is_ascending: bool = False,
) -> tuple[list[Kept], bool]:
    """Return the rows that follow `after`, the newest first, and whether there are more.

    Raises:
        ApiError: There is nothing with the id `after`.
    """
    query = query.where(kind.owner == owner)
    if after is not None:
        last = find(session, kind, owner, after)
        if last is None:
            raise invalid(f"There is nothing with the id `{after[:80]}`.", "after")
        is_later = kind.number > last.number if is_ascending else kind.number < last.number
        query = query.where(is_later)
    order = kind.number.asc() if is_ascending else kind.number.desc()
    rows: Sequence[Kept] = session.scalars(query.order_by(order).limit(limit + 1)).all()
    return list(rows[:limit]), len(rows) > limit


def known_file(store: Store, owner: str, file_id: str, param: str | None = None) -> FileRow:
    """Return a file that is there.

    Raises:
        ApiError: It is not, or is another owner's.
    """
    with store.reading() as session:
        row = find(session, FileRow, owner, file_id)
    if row is None or (row.expires is not None and row.expires <= now()):
        if param is not None:
            raise invalid(f"There is no file `{file_id[:100]}`.", param, "file_not_found")
        raise not_found("file", file_id)
    return row


def listing(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a page in the API's shape."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
