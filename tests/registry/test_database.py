"""The tables: made by migrations, brought up to date, and written to by several processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_mock_engine, inspect, select
from sqlalchemy.schema import ExecutableDDLElement

from tests.registry.small import everything, register, write_data
from tunefork.core.errors import RunError
from tunefork.core.files import home
from tunefork.registry import (
    Model,
    ObjectStore,
    Registry,
    SeenData,
    add_data,
    has_registry,
    look_at_data,
    make_engine,
    migrate,
    open_registry,
    verify,
)
from tunefork.registry.database import HEAD
from tunefork.registry.tables import Row

FORK = multiprocessing.get_context("fork")


def test_an_empty_home_gets_all_tables(tmp_path: Path) -> None:
    assert not has_registry()
    with open_registry() as registry:
        with registry.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            assert context.get_current_revision() == HEAD
            assert compare_metadata(context, Row.metadata) == []
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
        assert registry.folder == home()
    assert has_registry()


def test_an_older_database_keeps_its_rows(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine, "data_and_runs")
    assert not inspect(engine).has_table("models")
    engine.dispose()
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.db")) as rows, rows:
        rows.execute("INSERT INTO datasets VALUES ('old', '/gone', 'then', 'hash')")
    with open_registry(tmp_path) as registry:
        assert inspect(registry.engine).has_table("models")
        assert [row["name"] for row in everything(registry)["datasets"]] == ["old"]
        register(registry, tmp_path / "work", "new")


def test_evaluations_of_an_older_database_keep_their_hash(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine, "models_and_aliases")
    register(Registry(tmp_path, engine, ObjectStore(tmp_path / "objects")), tmp_path, "old")
    engine.dispose()
    with open_registry(tmp_path) as registry:
        assert verify(registry)["sound"]
        assert [row["verdict"] for row in everything(registry)["evaluations"]] == ["ship"]
        indexes = inspect(registry.engine).get_indexes("evaluations")
        assert [each["column_names"] for each in indexes] == [["model"]]


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    with open_registry(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "registry.db")) as rows, rows:
        rows.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    with pytest.raises(RunError, match="newer tunefork"), open_registry(tmp_path):
        pass


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("hello " * 1000)
    with pytest.raises(RunError, match="the registry cannot be used"), open_registry(tmp_path):
        pass


def _open_and_write(folder: Path, number: int, barrier: Barrier) -> None:
    barrier.wait()
    with open_registry(folder) as registry:
        for at in range(5):
            register(registry, folder / f"work-{number}-{at}", f"run-{number}-{at}")


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    barrier = FORK.Barrier(4)
    processes = [
        FORK.Process(target=_open_and_write, args=(tmp_path, at, barrier)) for at in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with open_registry(tmp_path) as registry:
        found = everything(registry)
        names = [row["name"] for row in found["models"]]
        assert names == sorted(f"run-{number}-{at}" for number in range(4) for at in range(5))
        assert len(found["evaluations"]) == 20
        assert len(found["blobs"]) == len({row["hash"] for row in found["blobs"]})
        assert verify(registry)["sound"]


def _add_versions(folder: Path, number: int, barrier: Barrier) -> None:
    with open_registry(folder) as registry:
        for at in range(5):
            path = folder / f"{number}-{at}" / "train.jsonl"
            seen = look_at_data(write_data(path.parent, count=1 + at * 2 + number))
            same_place = SeenData(folder / "train.jsonl", seen.files)
            barrier.wait()
            with registry.writing() as session:
                add_data(session, registry.objects, "small", same_place)


def test_versions_of_one_dataset_made_at_once_are_numbered_without_gaps(tmp_path: Path) -> None:
    with open_registry(tmp_path):
        pass
    barrier = FORK.Barrier(2)
    processes = [FORK.Process(target=_add_versions, args=(tmp_path, at, barrier)) for at in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    with open_registry(tmp_path) as registry:
        found = sorted(row["number"] for row in everything(registry)["dataset_versions"])
        assert found == list(range(1, 11))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with open_registry(tmp_path) as registry:
        register(registry, tmp_path / "work", "first")
        before = everything(registry)
        seen = look_at_data(write_data(tmp_path, count=3))
        with contextlib.suppress(ZeroDivisionError), registry.writing() as session:
            add_data(session, registry.objects, "small", seen)
            raise ZeroDivisionError
        assert everything(registry) == before


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    with open_registry(tmp_path) as registry:
        register(registry, tmp_path / "work", "first")
        with registry.writing() as writer:
            writer.get_one(Model, "first").system_prompt = "be kind"
            writer.flush()
            with registry.reading() as reader:
                assert reader.scalars(select(Model.system_prompt)).all() == [None]


def test_postgres_takes_the_schema() -> None:
    dialect = create_mock_engine("postgresql+psycopg://", lambda *_: None).dialect
    statements: list[str] = []

    def keep(statement: ExecutableDDLElement, *_: object) -> None:
        statements.append(str(statement.compile(dialect=dialect)))

    engine = create_mock_engine("postgresql+psycopg://", keep)
    Row.metadata.create_all(engine, checkfirst=False)
    text = "\n".join(statements)
    assert text.count("CREATE TABLE") == len(Row.metadata.tables) == 13
    assert "size_bytes BIGINT" in text
    assert "sqlite" not in text.lower()
