"""A backup brought back is equal to what was backed up."""

from __future__ import annotations

import io
import multiprocessing
import tarfile
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tests.registry.small import everything, register
from tunefork.core.errors import RunError
from tunefork.registry import back_up, open_registry, restore, verify


def test_backup_and_restore_are_equal(tmp_path: Path) -> None:
    with open_registry(tmp_path / "home") as registry:
        for name in "ab":
            register(registry, tmp_path / name, name, name.encode())
        made = back_up(registry, tmp_path / "all.tar")
        rows, copies = everything(registry), dict(registry.objects.addresses())
    assert made["copies"] == len(copies)
    restored = restore(tmp_path / "all.tar", tmp_path / "new")
    assert restored["copies"] == len(copies)
    with open_registry(tmp_path / "new") as again:
        assert everything(again) == rows
        found = dict(again.objects.addresses())
        assert found.keys() == copies.keys()
        assert all(found[each].read_bytes() == copies[each].read_bytes() for each in found)
        assert verify(again)["sound"]
        with again.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert not list((tmp_path / "new").glob("*.partial"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with open_registry(tmp_path / "home") as registry:
        register(registry, tmp_path / "a", "a")
        back_up(registry, tmp_path / "all.tar")
        with pytest.raises(RunError, match="there is such a file already"):
            back_up(registry, tmp_path / "all.tar")
        with pytest.raises(RunError, match="there is a registry already"):
            restore(tmp_path / "all.tar", tmp_path / "home")


def test_a_damaged_or_foreign_archive_changes_nothing(tmp_path: Path) -> None:
    with open_registry(tmp_path / "home") as registry:
        register(registry, tmp_path / "a", "a")
        back_up(registry, tmp_path / "all.tar")
    whole = (tmp_path / "all.tar").read_bytes()
    with tarfile.open(tmp_path / "all.tar") as archive:
        places = [member.offset_data + member.size // 2 for member in archive if member.size]
    for place in [*places[1:], None]:
        data = bytearray(whole) if place is not None else bytearray(whole[: len(whole) // 2])
        if place is not None:
            data[place] ^= 1
        (tmp_path / "bad.tar").write_bytes(bytes(data))
        with pytest.raises(RunError, match="this backup cannot be used"):
            restore(tmp_path / "bad.tar", tmp_path / "new")
        assert not (tmp_path / "new" / "registry.db").exists()
        assert not (tmp_path / "new" / "objects").exists()


def test_what_would_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        member = tarfile.TarInfo("../evil")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(RunError, match="does not belong"):
        restore(tmp_path / "evil.tar", tmp_path / "new")
    assert not (tmp_path / "evil").exists()


def _write_on(folder: Path, is_begun: Event, is_enough: Event) -> None:
    with open_registry(folder / "home") as registry:
        number = 0
        while not is_enough.is_set():
            register(registry, folder / f"w{number}", f"run-{number}", str(number).encode())
            number += 1
            is_begun.set()


def test_a_backup_made_while_another_process_writes_is_whole(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    is_begun, is_enough = fork.Event(), fork.Event()
    writer = fork.Process(target=_write_on, args=(tmp_path, is_begun, is_enough))
    writer.start()
    is_begun.wait()
    with open_registry(tmp_path / "home") as registry:
        for at in range(3):
            back_up(registry, tmp_path / f"{at}.tar")
    is_enough.set()
    writer.join()
    assert writer.exitcode == 0
    for at in range(3):
        restore(tmp_path / f"{at}.tar", tmp_path / f"new-{at}")
        with open_registry(tmp_path / f"new-{at}") as again:
            assert everything(again)["models"]
            assert verify(again)["sound"]
