"""`verify` finds one flipped byte, wherever it is, and names the place."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.small import everything, register, verdict, write_data
from tunefork.core.errors import TuneforkError
from tunefork.registry import (
    Registry,
    add_evaluation,
    find_model,
    open_registry,
    promote,
    verify,
)
from tunefork.registry.tables import Row


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with open_registry(tmp_path / "home") as found:
        register(found, tmp_path / "work", "first")
        with found.writing() as session:
            promote(session, find_model(session, "first"), "production", "better")
        yield found


def _flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def _damage(registry: Registry) -> list[dict[str, Any]]:
    found = verify(registry)
    assert found["sound"] == (not found["damage"])
    damage: list[dict[str, Any]] = found["damage"]
    return damage


def test_nothing_is_found_where_all_is_well(registry: Registry) -> None:
    found = verify(registry)
    assert found["sound"]
    assert found["checked"]["rows"] == sum(map(len, everything(registry).values()))
    assert found["checked"]["copies"] == 6  # data, record, spec, result, two of the adapter
    assert found["checked"]["files"] == 7  # two of the base, three of the run, two of the model


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        ("work/base/model.safetensors", "base", "small"),
        ("work/base/config.json", "base", "small"),
        ("work/first/model/adapter_model.safetensors", "model", "first"),
        ("work/first/record.json", "run", "first"),
        ("work/first/spec.json", "run", "first"),
        ("work/first/result.json", "run", "first"),
    ],
)
def test_a_flipped_byte_in_a_file_is_found(
    registry: Registry, tmp_path: Path, file: str, kind: str, name: str
) -> None:
    _flip(tmp_path / file)
    damage = _damage(registry)
    assert [(each["kind"], each["name"]) for each in damage] == [(kind, name)]
    assert str(tmp_path / file) in damage[0]["problem"]


def test_a_flipped_byte_in_any_kept_copy_is_found(registry: Registry) -> None:
    copies = [path for _, path in registry.objects.addresses()]
    for path in copies:
        _flip(path)
        damage = _damage(registry)
        assert [(each["kind"], each["name"]) for each in damage] == [("copy", str(path))]
        _flip(path)
    copies[0].unlink()
    assert [each["problem"] for each in _damage(registry)] == ["it is gone"]


def test_a_change_of_any_value_in_any_row_is_found(registry: Registry, tmp_path: Path) -> None:
    database = registry.database
    with registry.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    n_changed = 0
    for table in Row.metadata.sorted_tables:
        for column in table.columns:
            before = _poke(database, table.name, column.name)
            if before is not None:
                n_changed += 1
                assert _damage(registry), f"{table.name}.{column.name}"
                _restore(database, table.name, column.name, before)
    assert n_changed > 60
    assert not _damage(registry)


def _poke(database: Path, table: str, column: str) -> tuple[int, object] | None:
    """Change the last character of a value in the first row that has one."""
    with contextlib.closing(sqlite3.connect(database)) as rows, rows:
        found = rows.execute(
            f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL LIMIT 1"
        ).fetchone()
        if found is None:
            return None
        number, value = found
        changed = value + 1 if isinstance(value, int | float) else value[:-1] + "~"
        rows.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (changed, number))
        return number, value


def _restore(database: Path, table: str, column: str, before: tuple[int, object]) -> None:
    number, value = before
    with contextlib.closing(sqlite3.connect(database)) as rows, rows:
        rows.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, number))


def test_a_flipped_byte_in_the_database_file_is_found(registry: Registry, tmp_path: Path) -> None:
    """In what the rows say, whichever bit of it, also where it makes no text any more."""
    with registry.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = registry.database.read_bytes()
    marks = (b"production", b"better", b"first", b'"seed"', b"train.jsonl", b"small@", b"sha256:")
    n_flipped = 0
    for mark in marks:
        at = whole.find(mark)
        while at >= 0 and n_flipped < 120:
            for bit in (1, 128):
                home = tmp_path / f"copy-{n_flipped}"
                shutil.copytree(registry.folder, home)
                data = bytearray(whole)
                data[at] ^= bit
                (home / "registry.db").write_bytes(bytes(data))
                n_flipped += 1
                try:
                    with open_registry(home) as copy:
                        assert _damage(copy), (mark, at, bit)
                except TuneforkError:
                    pass  # it cannot even be opened, which is told
                shutil.rmtree(home)
            at = whole.find(mark, at + len(mark) * 3)
    assert n_flipped >= 40


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM alias_events WHERE number = 1",
        "DELETE FROM folder_files WHERE name = 'record.json'",
        "DELETE FROM blobs WHERE is_kept",
    ],
)
def test_a_removed_row_is_found(registry: Registry, tmp_path: Path, statement: str) -> None:
    register(registry, tmp_path / "more", "second", b"other")
    with registry.writing() as session:
        promote(session, find_model(session, "second"), "production", None)
    with contextlib.closing(sqlite3.connect(registry.database)) as rows, rows:
        rows.execute(statement)
    assert _damage(registry)


def test_a_deleted_run_folder_and_edited_data_are_no_damage(
    registry: Registry, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "work" / "first")
    write_data(tmp_path / "work", count=9)
    assert not _damage(registry)
    shutil.rmtree(tmp_path / "work" / "base")  # of which there is no copy
    assert {each["kind"] for each in _damage(registry)} == {"base"}


def test_what_is_written_twice_is_there_once(registry: Registry, tmp_path: Path) -> None:
    before = everything(registry)
    register(registry, tmp_path / "work", "first")
    with registry.writing() as session:
        add_evaluation(session, "first", verdict(), "small/train@1")
    assert everything(registry) == before
    with registry.writing() as session:
        add_evaluation(session, "first", verdict("hold", 0.25), None)
    assert [row["number"] for row in everything(registry)["evaluations"]] == [1, 2]
