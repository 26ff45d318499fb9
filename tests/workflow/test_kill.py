"""Killed at any moment, or out of disk: the run goes on to the same bits."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.torch
from safetensors import SafetensorError

from tests.cli.command import call
from tests.projects import files_of, write_project
from tests.small import save_model
from tunefork.core.errors import RunError
from tunefork.core.events import CheckpointSaved, Event, RunStarted, Warned, no_sink
from tunefork.training import checkpoint as checkpoint_module
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import Trained, train_project

_PROGRAM = "from tunefork.cli import main; main()"
_PATIENCE_S = 120.0  # for a machine that is busy with other things
_POLL_S = 0.002
_EPOCHS = 12
# Children fork from a server that has imported this file once, and never trained.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])
_ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    base = save_model("llama", folder / "base")
    return write_project(
        folder / "project",
        base,
        count=60,
        strategy={"name": "lora", "rank": 4, "dropout": 0.1},
        training={"epochs": _EPOCHS, "batch_tokens": 256, "learning_rate": 1e-2},
        date="2024-05-06",
    )


@pytest.fixture(scope="module")
def whole(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same run, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train_project(load_project(spec), out=out, sink=no_sink)


def _start(spec: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "train", str(spec), f"--out={out}", "--resume", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _kill_when(process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> bool:
    """Kill a process at some moment; say whether it was still running then."""
    end = time.monotonic() + _PATIENCE_S
    while process.poll() is None and not is_reached():
        assert time.monotonic() < end, "the moment never came"
        time.sleep(_POLL_S)
    was_running = process.poll() is None
    if was_running:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_PATIENCE_S)
    while _runs(process.pid):  # what it started ends with it
        assert time.monotonic() < end, "something outlived it"
        time.sleep(_POLL_S)
    return was_running


def _train(spec: Path, out: Path, home: str) -> None:
    """Train, or go on, in a process of its own."""
    os.environ["TUNEFORK_HOME"] = home
    train_project(load_project(spec), out=out, resume=True, sink=no_sink)


def _killed_fork(spec: Path, out: Path, is_reached: Callable[[], bool]) -> bool:
    """Train and kill at some moment, as `_killed`, without the time that it takes to start."""
    process = _FORKS.Process(target=_train, args=(spec, out, os.environ["TUNEFORK_HOME"]))
    process.start()
    end = time.monotonic() + _PATIENCE_S
    while process.is_alive() and not is_reached():
        assert time.monotonic() < end, "the moment never came"
        time.sleep(_POLL_S)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _killed(spec: Path, out: Path, is_reached: Callable[[], bool]) -> bool:
    """Train and kill at some moment; say whether it was still running then."""
    return _kill_when(_start(spec, out), is_reached)


def _runs(group: int) -> bool:
    """Say whether any process of a group still runs; the dead may wait for their parent."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            is_dead = process.status() == psutil.STATUS_ZOMBIE
            if os.getpgid(process.pid) == group and not is_dead:
                return True
    return False


def _lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _finish(spec: Path, out: Path) -> dict[str, Any]:
    process = _start(spec, out)
    stdout, stderr = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, stderr
    found: dict[str, Any] = json.loads(stdout)
    return found


def _same_bits(out: Path, whole: Trained) -> None:
    assert (out / "model" / _ADAPTER).read_bytes() == (whole.run.model / _ADAPTER).read_bytes()
    assert _curve(out) == _curve(whole.run.path)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.run.path.iterdir()}


def _curve(out: Path) -> list[dict[str, float]]:
    """Return every point of the curve, without what the clock says."""
    points = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in point.items() if k != "tokens_per_second"} for point in points]


def _kill_and_finish(
    spec: Path,
    out: Path,
    moments: Sequence[float],
    whole: Trained,
    killed: Callable[[Path, Path, Callable[[], bool]], bool] = _killed,
) -> dict[str, Any]:
    """Kill one run at shares of its curve, one after another, and then let it end."""
    total = _lines(whole.run.path)
    n_killed = 0
    for share in moments:
        is_reached = partial(_is_reached, out, _sitting(out), max(1, round(share * total)))
        n_killed += killed(spec, out, is_reached)
    assert n_killed == len(moments), "some kill came too late to count"
    return _finish(spec, out)


def _sitting(out: Path) -> int:
    """Return a mark that changes when a new sitting takes up the curve."""
    path = out / "metrics.jsonl"
    return path.stat().st_ino if path.is_file() else 0


def _is_reached(out: Path, earlier: int, lines: int) -> bool:
    return _sitting(out) != earlier and _lines(out) >= lines


def test_killed_at_five_points(spec: Path, whole: Trained, tmp_path: Path) -> None:
    # The first lies before the first checkpoint.
    moments = [3 / _lines(whole.run.path), 0.25, 0.45, 0.65, 0.85]
    result = _kill_and_finish(spec, tmp_path / "run", moments, whole, _killed_fork)
    _same_bits(tmp_path / "run", whole)
    assert result["resumed_from"] > 0
    assert result["steps"] == whole.result["steps"]
    assert result["validation_loss"] == whole.result["validation_loss"]
    before = files_of(tmp_path / "run")
    seen: list[Event] = []
    again = train_project(load_project(spec), out=tmp_path / "run", resume=True, sink=seen.append)
    assert again.result == result
    assert not [event for event in seen if isinstance(event, RunStarted)]
    assert files_of(tmp_path / "run") == before


def test_killed_while_a_checkpoint_is_written(spec: Path, whole: Trained, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _kill_when(_start(spec, out), lambda: any(out.glob("checkpoints/*.partial")))
    _finish(spec, out)
    _same_bits(out, whole)


def test_killed_before_anything_is_trained(spec: Path, whole: Trained, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert _kill_when(_start(spec, out), out.exists)
    result = _finish(spec, out)
    _same_bits(out, whole)
    assert result["resumed_from"] is None


@pytest.mark.parametrize(
    "left", [["record.json.partial"], ["record.json"], ["record.json", "spec.json.partial"]]
)
def test_killed_while_the_record_is_written(
    left: list[str], spec: Path, whole: Trained, tmp_path: Path
) -> None:
    for name in left:
        record = (whole.run.path / "record.json").read_text()
        (tmp_path / name).write_text(record if name == "record.json" else record[:20])
    trained = train_project(load_project(spec), out=tmp_path, resume=True, sink=no_sink)
    assert trained.result["resumed_from"] is None
    _same_bits(tmp_path, whole)


def test_resume_with_nothing_to_resume_starts(spec: Path, whole: Trained) -> None:
    found = call("train", spec, "--resume", "--json")
    assert found.code == 0, found.err
    assert found.json["resumed_from"] is None
    path = Path(found.json["path"]) / _ADAPTER
    assert path.read_bytes() == (whole.run.model / _ADAPTER).read_bytes()


@pytest.mark.soak
def test_killed_at_twenty_random_points(spec: Path, whole: Trained, tmp_path: Path) -> None:
    points = random.Random(0)
    for number in range(4):
        moments = sorted(points.uniform(0.02, 0.95) for _ in range(5))
        _kill_and_finish(spec, tmp_path / f"run{number}", moments, whole)
        _same_bits(tmp_path / f"run{number}", whole)


class _Stop(Exception):
    pass


def _interrupted(spec: Path, out: Path, saved: int) -> Path:
    """Start a run, stop it after some checkpoints, and return the newest of them."""
    paths: list[str] = []

    def sink(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            paths.append(event.path)
            if len(paths) == saved:
                raise _Stop

    with pytest.raises(_Stop):
        train_project(load_project(spec), out=out, sink=sink)
    return Path(paths[-1])


def test_a_damaged_checkpoint_is_passed_over(spec: Path, whole: Trained, tmp_path: Path) -> None:
    out = tmp_path / "run"
    newest = _interrupted(spec, out, saved=3)
    with (newest / "tensors.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    seen: list[Event] = []
    trained = train_project(load_project(spec), out=out, resume=True, sink=seen.append)
    assert [str(newest) in event.message for event in seen if isinstance(event, Warned)] == [True]
    assert 0 < trained.result["resumed_from"] < int(newest.name.removeprefix("step-"))
    _same_bits(out, whole)


def test_when_all_checkpoints_are_damaged_it_says_so(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _interrupted(spec, out, saved=1)
    for path in out.glob("checkpoints/*/state.json"):
        path.write_text("{")
    called = call("train", spec, "--out", out, "--resume", "--json")
    assert called.code == 1
    assert "every checkpoint of this run is damaged" in called.err


def _full_disk(kind: str, fails_at: int) -> Callable[..., None]:
    """Return a `save_file` for which the disk is full from some call on."""
    calls = 0

    def save(tensors: dict[str, Any], filename: Path, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < fails_at:
            safetensors.torch.save_file(tensors, filename, **options)
            return
        filename.write_bytes(b"half")
        if kind == "safetensors":
            # Word for word what it raises on a file system without room.
            raise SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(filename))

    return save


@pytest.mark.parametrize("kind", ["safetensors", "os"])
def test_disk_full_while_saving_a_checkpoint(
    kind: str, spec: Path, whole: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kept = _interrupted(spec, out, saved=2)
    before = files_of(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", _full_disk(kind, fails_at=1))
        called = call("train", spec, "--out", out, "--resume", "--json")
    _says_the_disk_is_full(called.code, called.err, called.out)
    assert files_of(kept) == before
    assert not list(out.rglob("*.partial"))
    trained = train_project(load_project(spec), out=out, resume=True, sink=no_sink)
    assert trained.result["resumed_from"] == int(kept.name.removeprefix("step-"))
    _same_bits(out, whole)


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_disk_full_while_saving_the_result(
    strategy: str, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_project(spec).spec.base
    own = write_project(tmp_path / "project", base, strategy=strategy)
    out = tmp_path / "run"
    place = "transformers.modeling_utils.safe_save_file"
    if strategy == "lora":
        place = "tunefork.strategies.folder.save_file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, _save_to_full_disk)
        called = call("train", own, "--out", out, "--json")
    _says_the_disk_is_full(called.code, called.err, called.out)
    assert not (out / "model").exists()
    trained = train_project(load_project(own), out=out, resume=True, sink=no_sink)
    assert trained.result["resumed_from"] == trained.result["steps"]


def _save_to_full_disk(*arguments: object, **options: object) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


def _says_the_disk_is_full(code: int, err: str, out: str) -> None:
    assert code == 1, err
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert ": the disk is full\nhint: free some space" in err
    assert json.loads(out)["error"]["message"] == "the disk is full"


def test_disk_full_on_a_real_file_system(spec: Path, whole: Trained, tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(room)]
    try:
        can_mount = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        can_mount = False
    if not can_mount:
        pytest.skip("no file system may be mounted here")
    try:
        called = call("train", spec, "--out", room / "run", "--json")
        _says_the_disk_is_full(called.code, called.err, called.out)
        subprocess.run(["mount", "-o", "remount,size=64m", str(room)], check=True)
        train_project(load_project(spec), out=room / "run", resume=True, sink=no_sink)
        _same_bits(room / "run", whole)
    finally:
        subprocess.run(["umount", str(room)], check=True)


def test_a_run_that_cannot_find_its_best_weights_says_so(tmp_path: Path) -> None:
    store = checkpoint_module.CheckpointStore(tmp_path)
    with pytest.raises(RunError, match="best weights"):
        store.load_best()
