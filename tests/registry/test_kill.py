"""Killed at any moment, the registry is whole: each thing is there, or not there.

The child kills itself at its n-th step: a statement to the database, a commit, or a file opened,
moved or removed. n goes up until the child comes to its end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from tests.registry.small import everything, register, write_data
from tunefork.registry import (
    Registry,
    add_data,
    clean,
    find_model,
    look_at_data,
    open_registry,
    promote,
    verify,
)

FORK = multiprocessing.get_context("fork")
_FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
_MOST_STEPS = 400


def _child(work: Callable[[Path], None], home: Path, last: int) -> None:
    done = 0

    def step(*_: object, **__: object) -> None:
        nonlocal done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_audit(name: str, values: tuple[object, ...]) -> None:
        if name in _FILE_EVENTS and str(values[0]).startswith(str(home)):
            step()

    sys.addaudithook(on_audit)
    event.listen(Engine, "after_cursor_execute", step)
    event.listen(Engine, "commit", step)
    work(home)


def _killed_everywhere(
    work: Callable[[Path], None], prepare: Callable[[Path], None], folder: Path, stride: int = 1
) -> list[Path]:
    """Kill the work at each of its steps, in a home of its own each time; return the homes."""
    homes: list[Path] = []
    for last in range(1, _MOST_STEPS, stride):
        home = folder / str(last)
        prepare(home)
        child = FORK.Process(target=_child, args=(work, home, last))
        child.start()
        child.join()
        homes.append(home)
        if child.exitcode == 0:
            return homes
        assert child.exitcode == -signal.SIGKILL
    raise AssertionError("the work does not end")


def _register(home: Path) -> None:
    with open_registry(home) as registry:
        register(registry, home / "work", "second", b"other")


def _promote(home: Path) -> None:
    with open_registry(home) as registry, registry.writing() as session:
        promote(session, find_model(session, "first"), "production", "it is better")


def _clean(home: Path) -> None:
    with open_registry(home) as registry:
        clean(registry, is_dry=False)


def _with_one_model(home: Path) -> None:
    with open_registry(home) as registry:
        register(registry, home / "work", "first")


def _with_garbage(home: Path) -> None:
    _with_one_model(home)
    with open_registry(home) as registry:
        for at in range(3):
            seen = look_at_data(write_data(home / "lost", count=10 + at, name=f"{at}.jsonl"))
            with registry.writing() as session:
                add_data(session, registry.objects, "lost", seen)
        with registry.writing() as session:
            session.connection().exec_driver_sql(
                "DELETE FROM dataset_versions WHERE id LIKE 'lost%'"
            )


def _check_sound(registry: Registry) -> None:
    found = verify(registry)
    assert found["sound"], found["damage"]


@pytest.mark.parametrize("is_first", [True, False])
def test_registering_is_all_or_nothing(tmp_path: Path, is_first: bool) -> None:
    def nothing(home: Path) -> None:
        home.mkdir()

    prepare, stride = (nothing, 2) if is_first else (_with_one_model, 5)
    homes = _killed_everywhere(_register, prepare, tmp_path, stride)
    assert len(homes) > 20
    n_before = 0
    for home in homes:
        with open_registry(home) as registry:
            _check_sound(registry)
            found = everything(registry)
            models = {row["name"] for row in found["models"]}
            assert len(found["models"]) == len(found["runs"]) == len(found["evaluations"])
            n_before += "second" not in models
            # The same again ends where an undisturbed process would have.
            register(registry, home / "work", "second", b"other")
            _check_sound(registry)
            assert clean(registry, is_dry=False)["freed_bytes"] >= 0
            _check_sound(registry)
            assert len(everything(registry)["evaluations"]) == (1 if is_first else 2)
    assert 0 < n_before < len(homes)  # killed before and after it came true


def test_promoting_is_all_or_nothing(tmp_path: Path) -> None:
    homes = _killed_everywhere(_promote, _with_one_model, tmp_path)
    found = []
    for home in homes:
        with open_registry(home) as registry:
            _check_sound(registry)
            found.append(len(everything(registry)["alias_events"]))
            _promote(home)
            assert len(everything(registry)["alias_events"]) == 1
    assert set(found) == {0, 1}
    assert found == sorted(found)


def test_gc_never_drops_too_much_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    homes = _killed_everywhere(_clean, _with_garbage, tmp_path)
    for home in homes:
        with open_registry(home) as registry:
            _check_sound(registry)
            clean(registry, is_dry=False)
            _check_sound(registry)
            kept = {row["hash"] for row in everything(registry)["blobs"] if row["is_kept"]}
            assert {address for address, _ in registry.objects.addresses()} == kept
            assert clean(registry, is_dry=True)["freed_bytes"] == 0
