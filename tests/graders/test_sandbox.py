"""Hostile programs: the run survives each, and the grade says what happened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunefork.core.errors import DataError, InputError
from tunefork.graders import Failure, Grade, grade_many, parse_grader, require_graded
from tunefork.graders.sandbox import Limits, Sandbox, Verification, seccomp, verify
from tunefork.graders.sandbox.backends import Isolation, available

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")

LIMITS = Limits(timeout_s=0.3, memory_bytes=1 << 28, file_bytes=1 << 16)
GOOD = "def grade(sample, item):\n    return len(sample['output_text']) / 10"


def starts(isolation: Isolation) -> bool:
    with Sandbox(LIMITS, [isolation]) as box:
        return box.isolation() == isolation


STARTED = [isolation for isolation in available() if starts(isolation)]
WALLED: list[Isolation] = [name for name in STARTED if name != "limits"]


@pytest.fixture(params=WALLED)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(LIMITS, [request.param]) as box:
        yield box


def program(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"def grade(sample, item):\n{lines}\n"


def failure(sandbox: Sandbox, body: str, **item: object) -> str:
    """Run a program that must fail, see that the sandbox still serves, and return its message."""
    found = sandbox.run(program(body), {"output_text": ""}, item)
    assert isinstance(found, Failure), found
    assert found.kind == "python_grader_runtime_error"
    assert "\n" not in found.message
    assert sandbox.run(GOOD, {"output_text": "abc"}, {}) == 0.3
    return found.message


def test_a_machine_of_this_kind_has_walls() -> None:
    # Without this, the tests below could all be skipped in silence.
    if not WALLED:
        pytest.skip("neither namespaces nor bubblewrap are allowed here")
    assert STARTED[0] == WALLED[0]


def test_many_answers_share_one_process(sandbox: Sandbox) -> None:
    source = "n = 0\n" + program("global n\nn += 1\nreturn n")
    assert [sandbox.run(source, {}, {}) for _ in range(50)] == list(range(1, 51))


def test_the_program_sees_sample_and_item(sandbox: Sandbox) -> None:
    source = program("return sample['output_json']['a'] + item['b']")
    assert sandbox.run(source, {"output_json": {"a": 1.5}}, {"b": 2}) == 3.5


def test_numpy_works_inside(sandbox: Sandbox) -> None:
    source = "import numpy as np\n" + program("return np.float32(np.ones((9, 9)).mean())")
    assert sandbox.run(source, {}, {}) == 1.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("return float('nan')", "it returned nan, not a finite number"),
        ("return float('inf')", "it returned inf, not a finite number"),
        ("return 10 ** 400", "OverflowError"),
        ("return 'one'", "it returned a str, not a number"),
        ("return None", "it returned a NoneType, not a number"),
        ("raise SystemExit", "SystemExit (line 2)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt (line 2)"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import nosuchmodule", "ModuleNotFoundError"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", "E (line 4)"),
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("import os\nos.listdir(item['home'])", "FileNotFoundError"),
        ("open('/tmp/x', 'w')", "OSError"),
        ("open(item['library'], 'a')", "OSError: [Errno 30]"),
        (
            "import socket\nsocket.create_connection(('127.0.0.1', item['port']))",
            "PermissionError",
        ),
        ("import os\nwhile True: os.fork()", "PermissionError"),
        ("import subprocess\nsubprocess.run(['/bin/sh'])", "PermissionError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
        ("import os\nos.kill(os.getppid(), 9)", "PermissionError"),
        ("import os\nos.kill(item['process'], 9)", "PermissionError"),
        ("return bytearray(1 << 32)", "MemoryError"),
        ("return len([0] * (1 << 30))", "MemoryError"),
        (
            "import os\nf = os.memfd_create('x')\nfor _ in range(999): os.write(f, b'x' * 1024)",
            "OSError: [Errno 27]",
        ),
        ("import os\nwhile True: os.dup(1)", "OSError: [Errno 24]"),
        ("import os\nos._exit(3)", "the program ended its process"),
        ("import ctypes\nctypes.string_at(0)", "the program ended its process"),
        ("while True: pass", "the program took longer than 0.3 s"),
        ("import time\ntime.sleep(1000)", "the program took longer than 0.3 s"),
    ],
)
def test_hostile_programs_get_one_clear_error(sandbox: Sandbox, body: str, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = failure(
            sandbox,
            body,
            home=str(Path(__file__).parent),
            library=os.__file__,
            port=server.getsockname()[1],
            process=os.getpid(),
        )
    assert found.startswith(message) or (body.startswith("open") and "Error" in found)
    assert not Path(os.__file__).read_bytes().endswith(b"\0")


SAY = "import os\nfor f in range(3, 9):\n    try: os.write(f, {})\n    except OSError: pass"
NONSENSE = "the program spoke in place of its process"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (SAY.format(r"b'{}\n'"), NONSENSE),
        (SAY.format(r"b'[' * 60000 + b'\n'"), NONSENSE),
        (SAY.format(r"b'{\"id\": 1, \"score\": \"1\"}\n'"), NONSENSE),
        (SAY.format(r"b'{\"id\": 1, \"score\": NaN}\n'"), "it returned nan"),
    ],
)
def test_who_speaks_in_place_of_the_process_is_not_believed(
    sandbox: Sandbox, body: str, message: str
) -> None:
    assert failure(sandbox, body) == message


def test_writing_without_end_is_ended(sandbox: Sandbox) -> None:
    body = "import os\nwhile True:\n  for f in (3, 4):\n    try: os.write(f, b'x' * 4096)\n"
    assert failure(sandbox, body + "    except OSError: pass") == "the program wrote without end"


def test_what_is_printed_goes_nowhere(sandbox: Sandbox) -> None:
    body = "print('garbage', flush=True)\nimport os\nos.write(2, b'garbage')\nreturn 1"
    assert sandbox.run(program(body), {}, {}) == 1


def test_a_program_that_will_not_load_is_not_loaded_again(sandbox: Sandbox) -> None:
    source = "import time\ntime.sleep(0.05)\nraise ValueError('no')\n" + GOOD
    start = time.monotonic()
    found = [sandbox.run(source, {}, {}) for _ in range(100)]
    assert time.monotonic() - start < 2
    assert set(map(str, found)) == {str(found[0])}
    assert "ValueError: no (line 3)" in str(found[0])


def test_a_program_that_hangs_is_given_up_after_three_times(sandbox: Sandbox) -> None:
    source = program("while sample['output_text']: pass\nreturn 1")
    hang, end = {"output_text": "x"}, {"output_text": ""}
    assert [isinstance(sandbox.run(source, s, {}), float) for s in (hang, hang, end)] == [0, 0, 1]
    start = time.monotonic()
    for _ in range(50):
        found = sandbox.run(source, hang, {})
    assert time.monotonic() - start < 2
    assert "3 times in a row: not tried again" in str(found)


def test_a_process_dies_with_its_sandbox() -> None:
    with Sandbox(LIMITS) as sandbox:
        sandbox.run(GOOD, {"output_text": ""}, {})
        (held,) = [p.worker for p in sandbox._programs.values() if p.worker]
        process = held._process.pid
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("isolation", STARTED)
def test_a_process_dies_with_who_started_it(isolation: Isolation) -> None:
    starter = (
        "from tunefork.graders.sandbox import Sandbox\n"
        f"box = Sandbox(isolations=[{isolation!r}])\n"
        "box.run('def grade(s, i): return 1', {}, {})\n"
        "print([p.worker._process.pid for p in box._programs.values()][0], flush=True)\n"
        "box.run('def grade(s, i):\\n    while True: pass', {}, {})\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        worker = Path("/proc") / process.stdout.readline().decode().strip()
        process.kill()
    deadline = time.monotonic() + 5
    while worker.exists() and _is_alive(worker) and time.monotonic() < deadline:
        os.sched_yield()
    assert not worker.exists() or not _is_alive(worker)


def _is_alive(process: Path) -> bool:
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # it ended in between
        return False


def test_programs_do_not_share_a_process(sandbox: Sandbox) -> None:
    spy = "import sys\n" + program("sys.leak = 1\nreturn 1")
    other = "import sys\n" + program("return hasattr(sys, 'leak')")
    assert sandbox.run(spy, {}, {}) == 1
    assert sandbox.run(other, {}, {}) == 0
    for number in range(6):  # more than stay alive
        assert sandbox.run(f"{GOOD}  # {number}", {"output_text": "a"}, {}) == 0.1
    assert sandbox.run(spy, {}, {}) == 1


def test_the_user_s_environment_is_not_seen(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    assert sandbox.run("import os\n" + program("return 'SECRET_KEY' in os.environ"), {}, {}) == 0


@pytest.mark.parametrize("isolation", WALLED)
def test_the_walls_are_verified_from_inside(isolation: Isolation) -> None:
    found = verify([isolation])
    assert found.isolation == isolation
    assert found.holds == dict.fromkeys(found.holds, True)
    assert set(found.holds) >= {"network", "files", "processes", "time"}
    found.require()


def test_without_walls_nothing_is_verified() -> None:
    found = verify(["limits"])
    assert not found.is_verified
    assert not found.holds["files"]
    assert found.holds["time"]
    assert found.holds["memory"]
    if seccomp.is_known():
        assert found.holds["network"]
        assert found.holds["processes"]
    with pytest.raises(InputError, match=r"does not hold \(.*files") as caught:
        found.require()
    assert caught.value.hint
    assert not Verification(None, {}).is_verified


def test_the_next_best_is_taken_where_the_best_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tunefork.graders.sandbox.worker.command",
        lambda isolation, limits: ["/bin/false"],
    )
    with Sandbox(LIMITS, ["namespaces", "limits"]) as sandbox:
        found = sandbox.run(GOOD, {}, {})
        assert isinstance(found, Failure)
        assert found.kind == "python_grader_server_error"
        assert "namespaces: " in found.message
        assert sandbox.isolation() is None
        assert "no sandbox starts here" in sandbox.describe()


def test_the_description_says_what_is_not_safe() -> None:
    with Sandbox(LIMITS, ["limits"]) as sandbox:
        assert "able to read your files" in sandbox.describe()


def marks(body: str, answers: list[str]) -> list[Grade]:
    grader = parse_grader({"type": "python", "source": program(body)}, reference=None, where=None)
    with Sandbox(LIMITS) as sandbox:
        return grade_many([grader] * len(answers), answers, sandbox=sandbox)


def test_a_failing_answer_scores_0_and_the_others_count() -> None:
    body = "return 1 / len(sample['output_text'])"
    empty, one, two = marks(body, ["", "a", "ab"])
    assert (one.score, two.score) == (1, 0.5)
    assert empty == Grade(
        0.0,
        False,
        "not graded: ZeroDivisionError: division by zero (line 2)",
        error="python_grader_runtime_error",
    )
    require_graded([empty, one, two])


def test_if_every_answer_fails_the_run_stops() -> None:
    grades = marks("return 1 / 0", ["a", "b"])
    with pytest.raises(DataError, match=r"no answer could be graded \(2 tried\): ZeroDivision"):
        require_graded(grades)
    require_graded([])


def test_numbers_outside_the_scale_are_kept_beside_the_score() -> None:
    low, high = marks("return float(sample['output_text'])", ["-2", "30"])
    assert (low.score, low.value, low.passed) == (0, -2, False)
    assert (high.score, high.value, high.passed) == (1, 30, True)
    assert high.reward == 30
    assert high.detail == "returned 30, counted as 1"
