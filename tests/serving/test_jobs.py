"""Files and jobs through the official client, with workers that only say how they ended."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.serving.fakes import (
    BEGIN,
    FAIL,
    SUCCEED,
    WAIT,
    FakeDecoder,
    context_of,
    live,
    serving,
    until,
)
from tunefork.core.errors import RunError
from tunefork.serving.app import create_app
from tunefork.serving.context import Context
from tunefork.serving.guard import Access
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.store import open_store
from tunefork.serving.tables import JobRow

_DIE = BEGIN + "os.kill(os.getpid(), signal.SIGKILL)"
_ROWS = "".join(json.dumps({"user": f"q{n}", "assistant": f"a{n}"}) + "\n" for n in range(12))


@pytest.fixture
def decoder() -> FakeDecoder:
    return FakeDecoder(lambda request: "Hi there.")


@contextlib.contextmanager
def _client(folder: Path, decoder: FakeDecoder, worker: str) -> Iterator[openai.OpenAI]:
    with (
        serving(folder, decoder, worker) as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def _upload(client: openai.OpenAI, text: str = _ROWS) -> str:
    file = ("train.jsonl", text.encode())
    return client.files.create(file=file, purpose="fine-tune").id


def _wait(client: openai.OpenAI, job: str, *states: str) -> FineTuningJob:
    until(lambda: client.fine_tuning.jobs.retrieve(job).status in states)
    return client.fine_tuning.jobs.retrieve(job)


def test_files(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        ids = [_upload(client, f"{n}\n" * (n + 1)) for n in range(3)]
        found = client.files.retrieve(ids[1])
        assert (found.bytes, found.filename, found.status) == (4, "train.jsonl", "processed")
        assert client.files.content(ids[1]).read() == b"1\n1\n"
        assert [file.id for file in client.files.list(limit=2)] == ids[::-1]  # pages by itself
        assert [file.id for file in client.files.list(order="asc", after=ids[0])] == ids[1:]
        assert client.files.delete(ids[1]).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(ids[1])
        assert not (tmp_path / "files" / ids[1]).exists()
        assert [file.id for file in client.files.list(purpose="evals")] == []


@pytest.mark.parametrize(
    ("name", "content", "purpose", "param"),
    [
        ("train.csv", b"x", "fine-tune", "file"),
        ("train.jsonl", b"", "fine-tune", "file"),
        ("train.jsonl", b"x", "nonsense", "purpose"),
    ],
)
def test_files_that_are_not_taken(
    tmp_path: Path, decoder: FakeDecoder, name: str, content: bytes, purpose: Any, param: str
) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            client.files.create(file=(name, content), purpose=purpose)
        assert raised.value.param == param
        assert list((tmp_path / "files").iterdir()) == []


def test_a_name_is_never_a_path(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path / "store", decoder, SUCCEED) as client:
        file = client.files.create(file=("../../../x\x00/evil.jsonl", b"{}"), purpose="fine-tune")
        assert file.filename == "evil.jsonl"
        for name in ("..%2F..%2Fserving.db", "%2e%2e%2fserving.db", "%00"):
            answer = httpx2.get(f"{client.base_url}files/{name}/content")
            assert answer.status_code == 404
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_a_job_from_file_to_answer(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        file = _upload(client)
        job = client.fine_tuning.jobs.create(
            model="gpt-4o-mini",
            training_file=file,
            suffix="cats",
            seed=3,
            metadata={"team": "a"},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        )
        assert job.status == "validating_files"
        client.files.delete(file)  # the job has its own
        done = _wait(client, job.id, "succeeded", "failed")
        assert done.status == "succeeded"
        assert done.fine_tuned_model is not None
        assert done.fine_tuned_model.startswith("ft:gpt-4o-mini:local:cats:")
        assert (done.trained_tokens, done.seed, done.metadata) == (7, 3, {"team": "a"})
        assert done.model_extra is not None
        assert done.model_extra["verdict"] == "hold"
        csv = client.files.content(done.result_files[0]).read().decode()
        assert csv.splitlines() == [
            "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy",
            "1,2.5,,,",
            "2,1.5,,1.25,",
        ]
        _asks_it(client, decoder, done)
        _shows_its_checkpoints(client, done)


def _asks_it(client: openai.OpenAI, decoder: FakeDecoder, done: FineTuningJob) -> None:
    name = str(done.fine_tuned_model)
    found = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "Hello?"}]
    )
    assert (found.model, found.choices[0].message.content) == (name, "Hi there.")
    assert decoder.requests[-1].adapter == name
    assert name in [model.id for model in client.models.list()]
    extra = client.models.retrieve(name).model_extra
    assert extra is not None
    assert extra["verdict"] == "hold"


def _shows_its_checkpoints(client: openai.OpenAI, done: FineTuningJob) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(done.id, limit=1))
    assert [each.step_number for each in checkpoints] == [2, 1]
    assert checkpoints[0].metrics.train_loss == 1.5
    assert checkpoints[0].metrics.full_valid_loss == 1.25
    name = checkpoints[0].fine_tuned_model_checkpoint
    assert name == f"{done.fine_tuned_model}:ckpt-step-2"
    client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hello?"}])
    assert client.models.delete(str(done.fine_tuned_model)).deleted
    for gone in (str(done.fine_tuned_model), name):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(gone)
    assert list(client.fine_tuning.jobs.checkpoints.list(done.id)) == []


def test_events_in_pages_and_as_they_come(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=_upload(client))
        with httpx2.stream(
            "GET", f"{client.base_url}fine_tuning/jobs/{job.id}/events?stream=true", timeout=20
        ) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        live_events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        messages = [each["message"].partition(":")[0] for each in live_events]
        assert messages == [
            "Created fine-tuning job",
            "Validating training file",
            "Files validated, moving job to queued state",
            "Fine-tuning job started",
            "Step 1/2",
            "The gate says",
            "New fine-tuned model created",
            "The job has successfully completed",
        ]
        paged = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
        assert [each.id for each in paged] == [each["id"] for each in live_events[::-1]]
        assert paged[3].type == "metrics"


def test_a_failed_job_says_why(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, FAIL) as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=_upload(client))
        failed = _wait(client, job.id, "failed")
        assert failed.error is not None
        assert (failed.error.message, failed.error.param) == ("row 3 is empty", "training_file")
        assert failed.fine_tuned_model is None
        events = list(client.fine_tuning.jobs.list_events(job.id))
        assert events[0].level == "error"


def test_one_at_once_pause_resume_cancel(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, WAIT) as client:
        file = _upload(client)
        jobs = client.fine_tuning.jobs
        first, second, third = (
            jobs.create(model="tiny", training_file=file, seed=n).id for n in range(3)
        )
        _wait(client, first, "running")
        _wait(client, third, "queued")
        assert jobs.retrieve(second).status == "queued"
        until(lambda: any((tmp_path / "jobs" / first).glob("began-*")))
        assert str(jobs.pause(first).status) == "paused"
        _wait(client, second, "running")  # its turn
        began = time.monotonic()
        assert jobs.cancel(second).status == "cancelled"
        assert time.monotonic() - began < 2
        assert jobs.cancel(third).status == "cancelled"
        with pytest.raises(openai.BadRequestError, match="The job is cancelled"):
            jobs.resume(second)
        jobs.resume(first)
        (tmp_path / "jobs" / first / "go").touch()
        assert _wait(client, first, "succeeded").finished_at is not None
        assert [job.id for job in jobs.list(limit=1)] == [third, second, first]
        assert [job.id for job in jobs.list(after=second)] == [first]


def test_a_worker_that_dies_is_started_again_twice(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, _DIE) as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=_upload(client))
        failed = _wait(client, job.id, "failed")
        assert failed.error is not None
        assert failed.error.code == "worker_killed"
        events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
        assert sum("another one goes on" in message for message in events) == 2


def _job(context: Context, name: str) -> JobRow:
    with context.store.reading() as session:
        return session.query(JobRow).filter_by(id=name).one()


def test_a_server_that_comes_back_follows_its_workers(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, WAIT) as client:
        file = _upload(client)
        first, second = (
            client.fine_tuning.jobs.create(model="tiny", training_file=file, seed=n).id
            for n in range(2)
        )
        _wait(client, second, "queued")
        until(lambda: any((tmp_path / "jobs" / first).glob("began-*")))
    with context_of(tmp_path, decoder, WAIT) as context:
        row = _job(context, first)
        assert row.state == "running"
        assert row.pid is not None
        assert psutil.pid_exists(row.pid)
        with live(create_app(context, Access())) as url:
            client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
            (tmp_path / "jobs" / first / "go").touch()
            _wait(client, first, "succeeded")
            assert _job(context, first).pid is None
            (tmp_path / "jobs" / second / "go").touch()
            _wait(client, second, "succeeded")
            client.close()
    began = list((tmp_path / "jobs" / first).glob("began-*"))
    assert len(began) == 1  # the same worker, not another one


def test_a_worker_that_was_killed_while_nobody_looked(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, WAIT) as client:
        job = client.fine_tuning.jobs.create(model="tiny", training_file=_upload(client)).id
        until(lambda: any((tmp_path / "jobs" / job).glob("began-*")))
    (began,) = (tmp_path / "jobs" / job).glob("began-*")
    os.kill(int(began.name.removeprefix("began-")), signal.SIGKILL)
    (tmp_path / "jobs" / job / "go").touch()
    with _client(tmp_path, decoder, WAIT) as client:
        _wait(client, job, "succeeded")
        assert len(list((tmp_path / "jobs" / job).glob("began-*"))) == 2


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"model": "gpt-5"}, "model"),
        ({"training_file": "file-nobody"}, "training_file"),
        ({"validation_file": "file-nobody"}, "validation_file"),
        ({"suffix": "a/b"}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement.grader"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "x"}}}},
            "method.reinforcement.grader",
        ),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ],
)
def test_jobs_that_are_not_taken(
    tmp_path: Path, decoder: FakeDecoder, settings: dict[str, Any], param: str
) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        given: dict[str, Any] = {"model": "tiny", "training_file": _upload(client), **settings}
        with pytest.raises(openai.BadRequestError) as raised:
            client.fine_tuning.jobs.create(**given)
        assert (raised.value.param or "").startswith(param)
        assert list((tmp_path / "jobs").iterdir()) == []


def test_a_request_that_is_sent_again_is_one_job(tmp_path: Path, decoder: FakeDecoder) -> None:
    with _client(tmp_path, decoder, SUCCEED) as client:
        file = _upload(client)
        again = {"x-stainless-retry-count": "1"}
        create = client.fine_tuning.jobs.create
        first = create(model="tiny", training_file=file).id
        assert create(model="tiny", training_file=file, extra_headers=again).id == first
        assert create(model="tiny", training_file=file).id != first
        assert create(model="tiny", training_file=file, seed=1, extra_headers=again).id != first


def test_a_full_disk_is_told(
    tmp_path: Path, decoder: FakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with _client(tmp_path, decoder, SUCCEED) as client:
        with monkeypatch.context() as patched:
            patched.setattr("tunefork.core.files.os.fsync", full)
            with pytest.raises(openai.InternalServerError, match="the disk is full") as raised:
                _upload(client)
        assert raised.value.status_code == 503
        assert str(tmp_path) not in raised.value.message
        assert list((tmp_path / "files").iterdir()) == []
        assert _upload(client)


def test_a_locked_database_is_told(
    tmp_path: Path, decoder: FakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunefork.serving.store._PATIENCE_MS", 50)
    with _client(tmp_path, decoder, SUCCEED) as client:
        with contextlib.closing(sqlite3.connect(tmp_path / "serving.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(openai.InternalServerError) as raised:
                _upload(client)
            assert raised.value.status_code == 503
            assert list((tmp_path / "files").iterdir()) == []
            assert client.files.list().data == []  # reading goes on
        assert _upload(client)


def test_only_one_server_uses_a_home(tmp_path: Path) -> None:
    with (
        open_store(tmp_path),
        pytest.raises(RunError, match="another server"),
        open_store(tmp_path),
    ):
        pass


def test_events_survive_a_line_that_was_cut(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.add_event("one")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"id": "cut')
    folder.add_event("two")
    assert [event["message"] for event in folder.events()] == ["one", "two"]
