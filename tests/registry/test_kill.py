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

from tests.projects import rows, write_lines
from tests.registry.small import everything, register, write_data
from tunefork.core.events import no_sink
from tunefork.core.files import home as home_folder
from tunefork.data.doctor import changes_path, undo
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
from tunefork.workflow import register as _loaded_before_forking  # noqa: F401
from tunefork.workflow.check import Against, check

FORK = multiprocessing.get_context("fork")
_FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
_MOST_STEPS = 400
_MESSY = [*rows(4), rows(1)[0], {"user": "so  it is?  ", "assistant": "it isnâ€™t"}]


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
    work: Callable[[Path], None],
    prepare: Callable[[Path], None],
    folder: Path,
    stride: int = 1,
    closely: int = 1,
) -> list[Path]:
    """Kill the work at its steps, in a home of its own each time; return the homes.

    At each of the first `closely` steps, then at every `stride`-th.
    """
    homes: list[Path] = []
    for last in [*range(1, closely), *range(closely, _MOST_STEPS, stride)]:
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


def _fix(home: Path) -> None:
    check(
        home / "data.jsonl",
        mapping=None,
        against=Against(base=None),
        fix=home / "mended.jsonl",
        sink=no_sink,
    )


def _with_messy_data(home: Path) -> None:
    with open_registry(home):  # to be killed while it is made is tested above
        pass
    write_lines(home / "data.jsonl", _MESSY)


def _with_another_fix(home: Path) -> None:
    """Leave what an earlier fix of other rows had written under the same name."""
    write_lines(home / "data.jsonl", _MESSY[:2])
    _fix(home)
    write_lines(home / "data.jsonl", _MESSY)


def _check_sound(registry: Registry) -> None:
    found = verify(registry)
    assert found["sound"], found["damage"]


@pytest.mark.parametrize("is_first", [True, False])
def test_registering_is_all_or_nothing(tmp_path: Path, is_first: bool) -> None:
    def nothing(home: Path) -> None:
        home.mkdir()

    prepare, stride = (nothing, 3) if is_first else (_with_one_model, 5)
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


@pytest.mark.parametrize("prepare", [_with_messy_data, _with_another_fix])
def test_a_fix_is_written_with_its_record_or_not_at_all(
    tmp_path: Path, prepare: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare_home(home: Path) -> None:
        monkeypatch.setenv("TUNEFORK_HOME", str(home))
        prepare(home)

    homes = _killed_everywhere(_fix, prepare_home, tmp_path, stride=16, closely=8)
    n_written = 0
    for home in homes:
        monkeypatch.setenv("TUNEFORK_HOME", str(home))
        assert home_folder() == home
        mended = home / "mended.jsonl"
        if mended.is_file():
            n_written += 1
            assert undo(mended) in (_MESSY, _MESSY[:2])
        with open_registry(home) as registry:
            _check_sound(registry)
        _fix(home)  # the data is as it was, so the same command does it all
        assert undo(mended) == _MESSY
        assert changes_path(mended).is_file()
        with open_registry(home) as registry:
            _check_sound(registry)
            versions = everything(registry)["dataset_versions"]
            assert len(versions) == (2 if prepare is _with_messy_data else 4)
            parents = {each["id"]: each["parent"] for each in versions}
            number = len(versions) // 2
            assert parents[f"{home.name}/mended@{number}"] == f"{home.name}/data@{number}"
    assert 0 < n_written < len(homes)
