"""Which folder a run takes, that no two share one, and what resuming says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import psutil
import pytest

from tests.cli.command import call
from tests.projects import write_project
from tests.small import save_model
from tunefork.core.errors import RunError
from tunefork.core.events import Event, Noted, StepDone, Warned, no_sink
from tunefork.core.files import home
from tunefork.models import find_base
from tunefork.workflow.claim import claimed_run
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("claimed")
    base = save_model("llama", folder / "base")
    return load_project(
        write_project(
            folder / "project",
            base,
            training={"epochs": 12, "batch_tokens": 256},
            date="2024-05-06",
        )
    )


def _claim(
    project: Project, stack: ExitStack, *, out: Path | None = None, resume: bool = False
) -> RunFolder:
    base = find_base(project.spec.base, relative_to=project.folder)
    return stack.enter_context(claimed_run(project, base, out=out, resume=resume))


def _begin(run: RunFolder) -> None:
    run.record_file.write_text(json.dumps({"identity": run.identity}))


def test_a_folder_in_use_is_refused_and_names_the_process(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with ExitStack() as stack:
        _begin(_claim(project, stack, out=out))
        for resume in (True, False):
            called = call(
                "train", project.folder, "--out", out, "--json", *["--resume"][: int(resume)]
            )
            assert called.code == 1
            error = called.json["error"]
            assert error["where"]["file"] == str(out)
            if resume:
                says = f"another process trains in this folder (process {psutil.Process().pid})"
                assert error["message"] == says
                assert "--out" in error["hint"]
            assert "Traceback" not in called.err
    with ExitStack() as stack:  # free again
        assert _claim(project, stack, out=out, resume=True).path == out


def test_a_new_folder_in_use_is_refused(project: Project, tmp_path: Path) -> None:
    with ExitStack() as stack:
        _claim(project, stack, out=tmp_path / "run")
        with pytest.raises(RunError, match="another process trains in this folder"):
            _claim(project, stack, out=tmp_path / "run")


def test_nothing_is_left_where_nothing_was_written(project: Project, tmp_path: Path) -> None:
    with ExitStack() as stack:
        _claim(project, stack, out=tmp_path / "deep" / "down" / "run")
        _claim(project, stack)
        assert (tmp_path / "deep" / "down" / "run").is_dir()
    assert not (tmp_path / "deep").exists()
    assert not (home() / "runs").exists()
    (tmp_path / "given").mkdir()
    with ExitStack() as stack:
        _claim(project, stack, out=tmp_path / "given")
    assert list((tmp_path / "given").iterdir()) == []


def test_two_at_the_same_moment_take_two_folders(project: Project) -> None:
    together = Barrier(4)

    def claim(_: int) -> Path:
        with ExitStack() as stack:
            together.wait()
            path = _claim(project, stack).path
            together.wait()
        return path

    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(claim, range(4)))
    assert len(set(taken)) == 4
    assert {path.parent for path in taken} == {home() / "runs"}


def test_at_home_the_newest_run_is_resumed_and_blank_folders_are_taken(project: Project) -> None:
    paths = []
    for _ in range(2):
        with ExitStack() as stack:
            run = _claim(project, stack)
            _begin(run)
            paths.append(run.path)
    third = paths[0].with_name(paths[0].name + "-3")
    third.mkdir()  # as a kill while the data is checked leaves it
    (third / ".lock").touch()
    (third / "record.json.partial").touch()
    with ExitStack() as stack:
        assert _claim(project, stack, resume=True).path == paths[1]
        assert _claim(project, stack).path == third
        with pytest.raises(RunError, match="another process trains"):
            _claim(project, stack, resume=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder `run`."""
    program = (
        "import sys; from pathlib import Path; from tunefork.workflow.claim import held\n"
        "with held(Path(sys.argv[1])):\n"
        "    Path(sys.argv[1], 'record.json').write_text('{}')\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_process_holds_nothing(
    project: Project, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with ExitStack() as stack:
        base = find_base(project.spec.base, relative_to=project.folder)
        identity = _claim(project, stack).identity
        (out / "record.json").write_text(json.dumps({"identity": identity}))
        with pytest.raises(RunError, match=rf"\(process {holder.pid}\)"):
            _claim(project, stack, out=out, resume=True)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert _claim(project, stack, out=out, resume=True).path == out
        assert base.folder.is_dir()


def _interrupted(project: Project, out: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 12:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_project(project, out=out, sink=stop)


def _said(project: Project, out: Path) -> tuple[list[str], list[str]]:
    seen: list[Event] = []
    train_project(project, out=out, resume=True, sink=seen.append)
    notes = [event.message for event in seen if isinstance(event, Noted)]
    return notes, [event.message for event in seen if isinstance(event, Warned)]


def test_resuming_says_what_it_decided(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "run"
    notes, _ = _said(project, out)
    assert notes == [f"nothing to resume: starting anew in {out}"]
    notes, _ = _said(project, out)
    assert notes == [f"training in {out} is finished already"]
    _interrupted(project, tmp_path / "cut")
    notes, warnings = _said(project, tmp_path / "cut")
    (note,) = notes
    assert note.startswith("going on from step 10 of ")
    assert note.endswith(f" in {tmp_path / 'cut'}")
    assert not [warning for warning in warnings if "since the run began" in warning]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("torch", "2.0.1", "torch was 2.0.1 and is "),
        ("threads", 96, "threads was 96 and is "),
        ("device", "cuda (H200)", "device was cuda (H200) and is cpu ("),
        ("compute_dtype", "float16", "compute_dtype was float16 and is "),
        ("code_hash", "sha256:0", "the code of tunefork is another"),
        ("platform", "another kernel", None),
    ],
)
def test_resuming_warns_where_the_bits_will_differ(
    key: str, value: object, says: str | None, project: Project, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    _interrupted(project, out)
    record = json.loads((out / "record.json").read_text())
    (record if key in record else record["environment"])[key] = value
    (out / "record.json").write_text(json.dumps(record))
    _, warnings = _said(project, out)
    found = [warning for warning in warnings if "since the run began" in warning]
    assert len(found) == (says is not None)
    if says is not None:
        assert says in found[0]
        assert "the result will not be the same bits" in found[0]


def test_the_record_names_device_and_number_format(project: Project, tmp_path: Path) -> None:
    trained = train_project(project, out=tmp_path / "run", sink=no_sink)
    environment = trained.run.record["environment"]
    assert environment["device"].startswith(("cpu (", "cuda ("))
    assert environment["compute_dtype"] in ("float32", "bfloat16")
