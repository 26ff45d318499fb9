"""Open the registry: one SQLite file in WAL mode, brought up to date by named migrations.

Entry point: `open_registry`. One process writes at a time: it holds `registry.lock`, a lock of the
operating system that ends with the process, so a kill leaves nothing to clean up. A write is one
transaction; rows go in when the copies they name are on the disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from tunefork.core.errors import RunError
from tunefork.core.files import home, writing
from tunefork.registry.objects import ObjectStore

HEAD = "sealed_attempts"  # the name of the newest migration
_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE_S = 60.0  # for another process that writes
_WRITES = "tunefork_writes"  # execution option: take SQLite's write lock at once


@dataclass(frozen=True)
class Registry:
    """An open registry."""

    folder: Path
    engine: Engine
    objects: ObjectStore

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that sees the registry as it is now."""
        with _told(self.folder), reading_session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """Hold the registry, and give a session; see `changing`."""
        with self.locked(), self.changing() as session:
            yield session

    @contextlib.contextmanager
    def changing(self) -> Iterator[Session]:
        """Give a session whose changes come true together at the end, or not at all.

        For who holds the registry.
        """
        with _told(self.folder), writing_session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry: nobody else writes rows or copies.

        Raises:
            RunError: Another process holds it for too long.
        """
        lock = FileLock(self.folder / "registry.lock", timeout=_PATIENCE_S)
        with writing(self.folder):
            try:
                lock.acquire()
            except Timeout:
                raise RunError(
                    "another process has been writing to the registry for a minute",
                    where=self.folder,
                    hint="try again when it has ended",
                ) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "registry.db"


def has_registry() -> bool:
    """Say whether there is a registry in the home folder."""
    return (home() / "registry.db").is_file()


@contextlib.contextmanager
def open_registry(folder: Path | None = None, *, url: str | None = None) -> Iterator[Registry]:
    """Give the registry, made or brought up to date first where need be.

    Args:
        folder: Where it lies; by default the home folder.
        url: Another database for the rows, such as Postgres.

    Raises:
        RunError: It cannot be read, or a newer tunefork wrote it.
    """
    folder = folder or home()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    engine = make_engine(url or f"sqlite:///{folder / 'registry.db'}")
    registry = Registry(folder, engine, ObjectStore(folder / "objects"))
    try:
        with _told(folder):
            if _version(engine) != HEAD:
                with registry.locked():  # others that open it meanwhile wait, and find it done
                    _prepare(engine)
                    migrate(engine)
        yield registry
    finally:
        engine.dispose()


def make_engine(url: str) -> Engine:
    """Return an engine for a URL; SQLite's is made to keep promises across processes."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    return engine


@contextlib.contextmanager
def reading_session(engine: Engine) -> Iterator[Session]:
    """Give a session that sees everything as it is now; its rows outlive it."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


@contextlib.contextmanager
def writing_session(engine: Engine) -> Iterator[Session]:
    """Give a session that takes the write lock at once, and commits at the end or not at all."""
    with reading_session(engine.execution_options(**{_WRITES: True})) as session, session.begin():
        yield session


def migrate(engine: Engine, target: str = "head") -> None:
    """Bring the tables up to date, in one transaction.

    Raises:
        RunError: A newer tunefork wrote them.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    version = _version(engine)
    if version is not None and version not in known:
        raise RunError(
            f"a newer tunefork wrote the registry (its tables are `{version}`)",
            where=engine.url.database,
            hint="update tunefork, or set TUNEFORK_HOME to another folder",
        )
    with engine.execution_options(**{_WRITES: True}).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)


def _version(engine: Engine) -> str | None:
    """Return the name of the last migration that was made; None where there was none."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return version


def _prepare(engine: Engine) -> None:
    """Let readers and a writer of SQLite not wait for each other; the file remembers it."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()


def _set_up(connection: Any, record: object) -> None:  # the driver's own connection
    connection.isolation_level = None  # transactions begin where we say so, tables included
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(_PATIENCE_S * 1000)}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn the database's refusals into one clear error."""
    try:
        yield
    except DatabaseError as error:
        raise RunError(
            f"the registry cannot be used: {error.orig}",
            where=folder / "registry.db",
            hint="check the disk; `tunefork backup FILE --restore` brings back a backup",
        ) from error
