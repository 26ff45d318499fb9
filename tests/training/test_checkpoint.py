"""Damaged checkpoints, folders that cannot be written, disks without room."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.projects import files_of
from tests.training.small_run import SETTINGS, messages, run
from tunefork.core.errors import RunError
from tunefork.core.events import CheckpointSaved, Event, Noted, Warned
from tunefork.training import CheckpointStore
from tunefork.training import checkpoint as checkpoint_module

_TENSORS, _STATE = "tensors.safetensors", "state.json"


def _interrupted(folder: Path) -> Path:
    """Stop a run after its second checkpoint, at step 6; return that one."""

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(folder, sink=stop)
    return folder / "checkpoints" / "step-000006"


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(bytes(data))


def _without_a_field(path: Path) -> None:
    record = json.loads((path / _STATE).read_text())
    del record["state"]
    (path / _STATE).write_text(json.dumps(record))


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated tensors": lambda p: os.truncate(p / _TENSORS, (p / _TENSORS).stat().st_size // 2),
    "empty tensors": lambda p: (p / _TENSORS).write_bytes(b""),
    "a flipped bit in the tensors": lambda p: _flip(p / _TENSORS, -5),
    "no tensors": lambda p: (p / _TENSORS).unlink(),
    "no state": lambda p: (p / _STATE).unlink(),
    "empty state": lambda p: (p / _STATE).write_text(""),
    "half a state": lambda p: os.truncate(p / _STATE, 40),
    "garbage state": lambda p: (p / _STATE).write_bytes(b"\xff\x00garbage"),
    "a list for a state": lambda p: (p / _STATE).write_text("[]"),
    "deep garbage": lambda p: (p / _STATE).write_text("[" * 100_000),
    "another number in the state": lambda p: (p / _STATE).write_text(
        (p / _STATE).read_text().replace('"step": 6', '"step": 7')
    ),
    "a state of too little": _without_a_field,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run(tmp_path_factory.mktemp("whole"))[0]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "run"
    _interrupted(folder)
    return folder


@pytest.mark.parametrize("name", _DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, cut: Path, expected: str, tmp_path: Path
) -> None:
    shutil.copytree(cut, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-000006"
    _DAMAGE[name](newest)
    seen: list[Event] = []
    found, result = run(tmp_path / "run", sink=seen.append)
    assert (found, result.resumed_from) == (expected, 3)
    assert messages(seen, Warned) == [
        f"the checkpoint {newest} is damaged; going on from step 3 instead"
    ]
    assert messages(seen, Noted) == [f"going on from step 3 of {result.steps} in {tmp_path}/run"]


def test_a_checkpoint_of_another_version_says_so(cut: Path, tmp_path: Path) -> None:
    shutil.copytree(cut, tmp_path / "run")
    store = CheckpointStore(tmp_path / "run")
    newest = store.load_newest()
    assert newest is not None
    state, tensors, _ = newest
    store.save(state, {f"old.{name}": tensor for name, tensor in tensors.items()})
    with pytest.raises(RunError, match="another version of tunefork"):
        run(tmp_path / "run")


def _refuse(number: int) -> Callable[..., None]:
    def save(tensors: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number), str(path))

    return save


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "cannot write here: Read-only file system"),
        (errno.EACCES, "cannot write here: Permission denied"),
        (errno.EIO, "cannot write here: Input/output error"),
    ],
)
def test_a_checkpoint_that_cannot_be_written(
    number: int, says: str, cut: Path, expected: str, tmp_path: Path
) -> None:
    shutil.copytree(cut, tmp_path / "run")
    before = files_of(tmp_path / "run" / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", _refuse(number))
        with pytest.raises(RunError, match=says) as caught:
            run(tmp_path / "run")
    assert caught.value.where is not None
    assert caught.value.hint
    assert files_of(tmp_path / "run" / "checkpoints") == before
    assert run(tmp_path / "run")[0] == expected


def test_a_run_folder_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a letter")
    with pytest.raises(RunError, match="cannot write here"):
        run(tmp_path / "run", SETTINGS.model_copy(update={"epochs": 1}))
    assert (tmp_path / "run").read_text() == "a letter"


def test_old_checkpoints_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    remove = shutil.rmtree

    def refuse(path: Path, **options: Any) -> None:
        if Path(path).name.startswith("step-") and not options:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(RunError, match="cannot write here"):
        run(tmp_path)
    assert store.load_newest() is not None


def test_tensors_on_disk_are_those_of_the_run(cut: Path, tmp_path: Path) -> None:
    """What a checkpoint holds can be read by anything that reads safetensors."""
    tensors = load_file(cut / "checkpoints" / "step-000006" / _TENSORS)
    save_file(tensors, tmp_path / "copy.safetensors")
    assert {name.split(".")[0] for name in tensors} >= {"master", "exp_avg", "exp_avg_sq"}
