"""`tunefork jobs`: what an operator sees and does, with a server running and without."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.cli.command import call
from tests.serving.fakes import BEGIN, FAIL, WAIT, FakeDecoder, serving, until

_PATIENCE_S = 20.0
_ROWS = "".join(json.dumps({"user": f"q{n}", "assistant": f"a{n}"}) + "\n" for n in range(12))
_BREAK = BEGIN + (
    "print('KeyError: nobody thought of it')\n"
    "folder.write_end('failed', error={'code': 'internal_error', 'message': 'our fault: KeyError',"
    " 'param': None})"
)


@contextlib.contextmanager
def _served(worker: str) -> Iterator[httpx2.Client]:
    folder = Path(os.environ["TUNEFORK_HOME"]) / "serving"
    with (
        serving(folder, FakeDecoder(lambda request: "Hi."), worker) as url,
        httpx2.Client(base_url=url, timeout=_PATIENCE_S) as web,
    ):
        yield web


def _make(web: httpx2.Client) -> str:
    parts = {"file": ("rows.jsonl", _ROWS.encode())}
    file = web.post("/files", files=parts, data={"purpose": "fine-tune"}).json()["id"]
    body = {"model": "tiny", "training_file": file}
    return str(web.post("/fine_tuning/jobs", json=body).json()["id"])


def _wait(web: httpx2.Client, job: str, *states: str) -> dict[str, Any]:
    until(lambda: web.get(f"/fine_tuning/jobs/{job}").json()["status"] in states)
    found: dict[str, Any] = web.get(f"/fine_tuning/jobs/{job}").json()
    return found


def _worker(job: str) -> int:
    folder = Path(os.environ["TUNEFORK_HOME"]) / "serving" / "jobs" / job
    until(lambda: any(folder.glob("began-*")))
    return int(next(folder.glob("began-*")).name.removeprefix("began-"))


def test_why_a_job_failed() -> None:
    with _served(FAIL) as web:
        job = _make(web)
        followed = call("jobs", "logs", job, "-f")  # until it is over
        assert "Created fine-tuning job" in followed.out.splitlines()[0]
        assert followed.out.splitlines()[-1].endswith("error: The job failed: row 3 is empty")
        shown = call("jobs", "show", job)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[:3] == [
        f"id: {job}",
        "status: failed",
        "why: row 3 is empty (`training_file`)",
    ]
    assert not any("what its process said" in line for line in lines)
    found = call("jobs", "show", job, "--json").json
    assert (found["why"], found["project"], found["base"]) == (
        "row 3 is empty (`training_file`)",
        "local",
        "tiny",
    )
    (listed,) = call("jobs", "list", "--json").json["jobs"]
    assert (listed["id"], listed["status"]) == (job, "failed")
    assert "row 3 is empty" in call("jobs", "list").out
    events = [json.loads(line) for line in call("jobs", "logs", job, "--json").out.splitlines()]
    assert events[-1]["message"] == "The job failed: row 3 is empty"


def test_where_we_are_at_fault_the_process_is_quoted() -> None:
    with _served(_BREAK) as web:
        job = _make(web)
        _wait(web, job, "failed")
    shown = call("jobs", "show", job)
    assert "why: our fault: KeyError" in shown.out
    assert "  KeyError: nobody thought of it" in shown.out
    assert call("jobs", "logs", job, "--worker").out == "KeyError: nobody thought of it\n"


def test_a_server_does_what_is_asked() -> None:
    with _served(WAIT) as web:
        job = _make(web)
        worker = _worker(job)
        assert call("jobs", "pause", job).out == f"{job} is paused\n"
        assert not psutil.pid_exists(worker)
        assert "jobs resume" in call("jobs", "show", job, "--json").json["why"]
        wrong = call("jobs", "pause", job)
        assert (wrong.code, "The job is paused" in wrong.err) == (1, True)
        assert call("jobs", "resume", job, "--json").json["status"] in ("queued", "running")
        _wait(web, job, "running")
        assert call("jobs", "cancel", job).out == f"{job} is cancelled\n"


def test_another_server_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with _served(WAIT) as web:
        job = _make(web)
        there = ("--server", web.base_url)
        _worker(job)
        (listed,) = call("jobs", "list", *there, "--json").json["jobs"]
        assert (listed["id"], listed["status"]) == (job, "running")
        assert job in call("jobs", "list", *there).out
        assert call("jobs", "pause", job, *there).out == f"{job} is paused\n"
        assert call("jobs", "show", job, *there, "--json").json["status"] == "paused"
        followed = call("jobs", "logs", job, "-f", *there).out.splitlines()
        assert "Created fine-tuning job" in followed[0]
        assert "The job was paused" in followed[-1]
        wrong = call("jobs", "pause", job, *there)
        assert (wrong.code, "The job is paused" in wrong.err) == (1, True)
        assert call("jobs", "show", "x/../y", *there).code == 1
        assert call("jobs", "cancel", job, *there).out == f"{job} is cancelled\n"
        key = call("keys", "create", "--json").json["key"]
        until(lambda: call("jobs", "list", *there).code == 1)  # in half a second it knows of it
        assert "asks for a key" in call("jobs", "list", *there).err
        monkeypatch.setenv("THE_KEY", key)
        found = call("jobs", "list", *there, "--key-env", "THE_KEY", "--json")
        assert [each["id"] for each in found.json["jobs"]] == [job]


def test_without_a_server_workers_are_stopped_all_the_same() -> None:
    with _served(WAIT) as web:
        first, second = _make(web), _make(web)
        worker = _worker(first)
        _wait(web, second, "queued")
    assert psutil.pid_exists(worker)
    assert call("jobs", "show", first, "--json").json["worker"] == worker
    paused = call("jobs", "pause", first)
    assert (paused.code, paused.out) == (0, f"{first} is paused\n")
    resumed = call("jobs", "resume", first)
    assert "as soon as a server runs" in resumed.err
    assert call("jobs", "cancel", first).out == f"{first} is cancelled\n"
    assert call("jobs", "cancel", second).out == f"{second} is cancelled\n"
    with _served(WAIT) as web:
        assert web.get(f"/fine_tuning/jobs/{second}").json()["status"] == "cancelled"


@pytest.mark.parametrize("verb", ["show", "cancel", "pause", "resume", "logs"])
def test_there_is_no_such_job(verb: str) -> None:
    called = call("jobs", verb, "ftjob-nobody")
    assert called.code == 1
    assert called.err == (
        "error: there is no job `ftjob-nobody`\nhint: `tunefork jobs list` names them\n"
    )


def test_no_jobs_at_all() -> None:
    assert call("jobs", "list", "--json").json == {"jobs": []}
    assert "no jobs" in call("jobs", "list").err
