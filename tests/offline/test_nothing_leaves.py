"""Nothing leaves the machine: the whole life cycle where there is no network but loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_ALONE = ["unshare", "--map-root-user", "--net"]  # a network that has loopback only

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")


def _can_be_alone() -> bool:
    try:
        return subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _live(folder: Path, *options: str) -> tuple[dict[str, Any], list[list[str]], bool]:
    """Return what happened, what the programs noted, and whether there was no way out at all."""
    is_closed = _can_be_alone()
    notes = folder / "notes.tsv"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (_HERE / "guard", _ROOT / "src", _ROOT))),
        "TUNEFORK_HOME": str(folder / "home"),
        "TUNEFORK_TEST_NOTES": str(notes),
        "TUNEFORK_TEST_IS_CLOSED": "1" if is_closed else "0",
    }
    environment.pop("HF_HUB_OFFLINE", None)  # what it would forbid must not be tried either
    program = [sys.executable, "-m", "tests.offline.life_cycle", str(folder), *options]
    done = subprocess.run(
        [*(_ALONE if is_closed else []), *program],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in notes.read_text(encoding="utf-8").splitlines()]
    return json.loads(done.stdout.splitlines()[-1]), lines, is_closed


def _nothing_left(found: dict[str, Any], notes: list[list[str]], is_closed: bool) -> None:
    assert found["checked"] == 24
    assert found["verdict"] in ("ship", "hold", "undecided")
    assert (found["promoted"], found["answered"]) == ("best", 5)
    reached = [text for kind, text in notes if kind == "reached"]
    assert reached == ["192.0.2.1"], "the one attempt that is made on purpose"
    if is_closed:  # then the kernel counted also what is not Python
        assert found["no_routes"] == 0
        assert found["no_routes_at_last"] == 1


def test_nothing_leaves_from_check_to_answer(tmp_path: Path) -> None:
    _nothing_left(*_live(tmp_path))


@pytest.mark.soak
def test_nothing_leaves_from_a_job_of_the_server(tmp_path: Path) -> None:
    found, notes, is_closed = _live(tmp_path, "--job")
    _nothing_left(found, notes, is_closed)
    assert found["job"] == "succeeded"
    programs = [text for kind, text in notes if kind == "program"]
    assert sum("tunefork.workflow.job" in text for text in programs) >= 2  # the check, the training
