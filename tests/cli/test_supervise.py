"""The parent of what trains: it tells how its child ended, and starts it again with less."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cli.command import call
from tests.projects import small_probe, write_project
from tests.small import save_model
from tunefork.cli.supervise import (
    command_to_resume,
    memory_kills,
    needs_supervisor,
    supervise,
)
from tunefork.core.allocator import quick_allocator, wastes_memory
from tunefork.core.threads import short_waits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts such kills")

_PROGRAM = "from tunefork.cli import main; main()"
_PATIENCE_S = 120.0  # for a machine that is busy with other things
_POLL_S = 0.002


def _child(code: str) -> tuple[str, ...]:
    """Return a program that writes down its arguments and then runs some code."""
    note = "import os, signal, sys; print(sys.argv[1:], file=sys.stderr, flush=True)"
    return (sys.executable, "-c", f"{note}\n{code}")


_DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def _counter(*values: int) -> Callable[[], int]:
    left = list(values)
    return lambda: left.pop(0)


def test_killed_for_memory_it_goes_on_with_half(capfd: pytest.CaptureFixture[str]) -> None:
    dies_twice = f"if '--halvings=2' not in sys.argv: {_DIE}\nsys.exit(7)"
    code = supervise(
        ["train", "my spec", "--json"],
        read_kills=_counter(5, 6, 6, 9, 9),
        program=_child(dies_twice),
    )
    assert code == 7
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "['train', 'my spec', '--json']"
    assert lines[1].startswith("warning: the system killed the training for want of memory")
    assert "(1 of 4 tries)" in lines[1]
    assert lines[2] == "['train', '--resume', '--halvings=1', 'my spec', '--json']"
    assert "(2 of 4 tries)" in lines[3]
    assert lines[4] == "['train', '--resume', '--halvings=2', 'my spec', '--json']"


def test_after_four_halvings_it_gives_up(capfd: pytest.CaptureFixture[str]) -> None:
    code = supervise(["run", "a", "--json"], read_kills=_counter(*range(10)), program=_child(_DIE))
    assert code == 137
    out, err = capfd.readouterr()
    assert err.count("warning:") == 4
    assert err.count("error:") == 1
    assert "for want of memory 5 times\nhint: close other programs" in err
    error = json.loads(out)["error"]
    assert "tunefork run a --json --resume" in error["hint"]


def test_killed_by_hand_it_stays_dead(capfd: pytest.CaptureFixture[str]) -> None:
    code = supervise(["train", "a"], read_kills=_counter(5, 5), program=_child(_DIE))
    assert code == 137
    err = capfd.readouterr().err.splitlines()
    assert err[1:] == ["ended by SIGKILL; go on with: tunefork train a --resume"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 139),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)", 130),
    ],
)
def test_the_exit_code_is_passed_on(code: str, expected: int) -> None:
    unblock = "signal.pthread_sigmask(signal.SIG_SETMASK, [])\n"
    assert supervise(["train"], read_kills=lambda: 0, program=_child(unblock + code)) == expected
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_which_commands_are_supervised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunefork.cli.supervise.memory_kills", lambda: 0)
    for yes in (["train", "a"], ["run", "a", "--json"], ["demo"]):
        assert needs_supervisor(yes)
    for no in ([], ["chat", "a"], ["train", "--help"], ["demo", "-h"], ["--version"], ["init"]):
        assert not needs_supervisor(no)
    monkeypatch.setattr("tunefork.cli.supervise.memory_kills", lambda: None)
    assert not needs_supervisor(["train", "a"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/vmstat": "nr_free 5\noom_kill 3\n"}, 3),
        (
            {
                "proc/vmstat": "oom_kill 3\n",
                "proc/self/cgroup": "0::/user/app\n",
                "sys/fs/cgroup/user/app/memory.events": "oom 9\noom_kill 2\noom_group_kill 0\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/box\n0::/\n",
                "sys/fs/cgroup/memory/box/memory.oom_control": "under_oom 0\noom_kill 4\n",
            },
            4,
        ),
        ({"proc/vmstat": "oom_kill many\n", "proc/self/cgroup": "nonsense\n"}, None),
    ],
)
def test_kills_are_counted_as_the_system_does(
    files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_kills(tmp_path) == expected


def test_the_command_to_go_on_with_is_what_was_typed() -> None:
    cases = [
        (["train", "my spec", "--out", "a b"], "tunefork train 'my spec' --out 'a b' --resume"),
        (["run", "a", "--resume", "--halvings=2"], "tunefork run a --resume"),
        (["demo"], "tunefork demo --resume"),
        (["train", "--", "-odd"], "tunefork train --resume -- -odd"),
        (["chat", "tiny"], None),
        ([], None),
    ]
    for arguments, expected in cases:
        assert command_to_resume(arguments) == expected


def test_the_parent_loads_nothing_heavy() -> None:
    program = (
        "import sys; from tunefork.cli.supervise import supervise\n"
        "supervise(['train'], program=(sys.executable, '-c', ''))\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'typer', 'pydantic'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supervised")
    base = save_model("llama", folder / "base")
    return write_project(
        folder / "project",
        base,
        count=60,
        training={"epochs": 40, "batch_tokens": 256},
        date="2024-05-06",
    )


def _wait_for(process: subprocess.Popen[str], is_reached: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not is_reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the moment never came"
        time.sleep(_POLL_S)


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _curve(out: Path) -> list[str]:
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.is_file() else []


def _child_of(process: subprocess.Popen[str]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.fixture(scope="module")
def whole(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "run"
    called = call("train", spec, "--out", out, "--json")
    assert called.code == 0, called.err
    return (out / "model" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("number", "code", "whom"),
    [
        pytest.param(signal.SIGINT, 130, "parent", marks=pytest.mark.soak),
        (signal.SIGINT, 130, "group"),  # Ctrl-C
        (signal.SIGTERM, 143, "parent"),  # a scheduler
        pytest.param(signal.SIGTERM, 143, "group", marks=pytest.mark.soak),
    ],
)
def test_a_signal_saves_and_says_what_to_type(
    number: int, code: int, whom: str, spec: Path, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "a run"
    process = _start(_PROGRAM, "train", spec, "--out", out)
    _wait_for(process, lambda: len(_curve(out)) >= 3)
    if whom == "parent":
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    _, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == code, err
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("stopped at step ")
    assert last.endswith(f" and saved; go on with: tunefork train {spec} --out '{out}' --resume")
    called = call("train", spec, "--out", out, "--resume", "--json")
    assert called.json["resumed_from"] == int(last.split()[3])
    assert (out / "model" / "adapter_model.safetensors").read_bytes() == whole


def test_a_child_does_not_outlive_its_parent(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = _start(_PROGRAM, "train", spec, "--out", out)
    _wait_for(process, lambda: len(_curve(out)) >= 1)
    child = _child_of(process)
    process.kill()
    process.communicate(timeout=_PATIENCE_S)
    psutil.wait_procs([child], timeout=_PATIENCE_S)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_training_that_the_system_killed_ends_in_the_same_place(
    spec: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    program = (
        "import sys; from tunefork.cli.supervise import supervise\n"
        "kills = iter([0, 1, 1])\n"
        "sys.exit(supervise(sys.argv[1:], read_kills=lambda: next(kills)))"
    )
    process = _start(program, "train", spec, "--out", out, "--json")
    _wait_for(process, lambda: len(_curve(out)) >= 15)
    _child_of(process).kill()
    stdout, err = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, err
    assert "warning: the system killed the training for want of memory" in err
    assert "going on from step " in err
    result = json.loads(stdout)
    assert result["resumed_from"] >= 10
    assert result["training_settings"]["micro_tokens"] == 128  # half of 256


def test_the_demo_can_be_gone_on_with(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunefork.workflow import run as run_module
    from tunefork.workflow import start as start_module
    from tunefork.workflow.spec import load_project

    monkeypatch.setattr(run_module, "general_probe", small_probe)
    monkeypatch.setattr(start_module, "example_project", lambda name: load_project(spec))
    for arguments in ([], ["--resume", "--halvings=1"]):
        called = call("demo", "--out", tmp_path / "run", *arguments, "--json")
        assert called.code in (0, 1), called.err
        assert called.json["verdict"]
    assert "is finished already" in called.err


def test_tcmalloc_is_preloaded_where_it_is_and_nothing_else_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert quick_allocator(tmp_path) == {}
    library = tmp_path / "usr/lib64/libtcmalloc_minimal.so.4"
    library.parent.mkdir(parents=True)
    library.touch()
    assert quick_allocator(tmp_path) == {"LD_PRELOAD": str(library)}
    is_linux = sys.platform.startswith("linux")
    assert not wastes_memory(tmp_path)
    assert wastes_memory(tmp_path / "usr") == is_linux
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    assert quick_allocator(tmp_path) == {}
    assert wastes_memory(tmp_path) == is_linux
    monkeypatch.setenv("LD_PRELOAD", str(library))
    assert not wastes_memory(tmp_path)


def test_threads_wait_shortly_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert short_waits() == {"GOMP_SPINCOUNT": "20000"}
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert short_waits() == {}
