"""The whole: the real command, the real engine, real workers, on a small random base."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from tests.projects import questions, rows
from tests.small import save_model
from tunefork.serving.keys import NewKey, PerMinute, create_key, rotate_key, set_project
from tunefork.serving.store import shared_store

pytestmark = pytest.mark.soak
_PATIENCE_S = 240.0  # for a machine that is busy with other things
_TURN: Any = [{"role": "user", "content": "who is cat?"}]


class Server:
    """`tunefork serve` in a process of its own."""

    def __init__(self, home: Path, base: Path) -> None:
        self.home = home
        self.base = base
        self.client: openai.OpenAI
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tunefork.cli", "serve", "--port=0"]
        command += ["--base=tiny", f"--base={self.base}", f"--map=gpt-4o-mini={self.base}"]
        log = self.home / "serve.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as output:
            environment = {**os.environ, "TUNEFORK_HOME": str(self.home)}
            self.process = subprocess.Popen(command, env=environment, stderr=output)
        until(lambda: "Serving at" in log.read_text() or self.process.poll() is not None)
        found = re.search(r"Serving at (\S+)", log.read_text())
        assert found, log.read_text()
        self.url = found[1]
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0)

    def kill(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(_PATIENCE_S) == 0

    def upload(self, values: list[dict[str, Any]], purpose: Any = "fine-tune") -> str:
        text = "".join(json.dumps(value) + "\n" for value in values)
        return self.client.files.create(file=("rows.jsonl", text.encode()), purpose=purpose).id

    def status(self, job: str) -> str:
        return str(self.client.fine_tuning.jobs.retrieve(job).status)

    def wait(self, job: str, *states: str) -> Any:
        until(lambda: self.status(job) in states)
        return self.client.fine_tuning.jobs.retrieve(job)

    def messages(self, job: str) -> list[str]:
        events = self.client.fine_tuning.jobs.list_events(job, limit=100)
        return [event.message for event in events][::-1]

    def worker(self, job: str) -> int:
        """Return the process that works on a job."""
        found: list[int] = []

        def is_there() -> bool:
            for process in psutil.process_iter(["cmdline"]):
                line = process.info["cmdline"] or []
                if "tunefork.workflow.job" in line and any(job in part for part in line):
                    found.append(process.pid)
            return bool(found)

        until(is_there)
        return found[0]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = save_model("llama", tmp_path_factory.mktemp("base") / "base")
    server = Server(tmp_path_factory.mktemp("served"), base)
    try:
        yield server
    finally:
        server.stop()


def _ask(server: Server, model: str, **settings: Any) -> str | None:
    found = server.client.chat.completions.create(
        model=model, messages=_TURN, **{"temperature": 0, "max_tokens": 20, **settings}
    )
    text: str | None = found.choices[0].message.content
    return text


def test_a_job_from_upload_to_answer(server: Server) -> None:
    client = server.client
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=server.upload(rows(40)),
        suffix="nap",
        seed=1,
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {
                    "n_epochs": 3,
                    "batch_size": 8,
                    "learning_rate_multiplier": 2,
                }
            },
        },
        extra_body={"golden_file": server.upload(questions(), "evals")},
    )
    seen = ["validating_files"]

    def is_over() -> bool:
        status = server.status(job.id)
        if status != seen[-1]:
            seen.append(status)
        return status in ("succeeded", "failed")

    until(is_over)
    order = ["validating_files", "queued", "running", "succeeded"]
    assert seen == [state for state in order if state in seen]
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    messages = server.messages(job.id)
    begins = ("Created", "Validating", "Files validated", "Fine-tuning job started", "Plan: lora")
    more = ("Checkpoint created", "The gate says", "New fine-tuned", "The job has successfully")
    places = [
        next(at for at, message in enumerate(messages) if message.startswith(begin))
        for begin in (*begins, *more)
    ]
    assert places == sorted(places)
    assert (done.model_extra or {})["verdict"] in ("ship", "hold", "undecided")
    settled = done.hyperparameters
    assert (settled.n_epochs, settled.batch_size) == (3, 8)
    lines = client.files.content(done.result_files[0]).read().decode().splitlines()
    assert len(lines) > 3
    name = str(done.fine_tuned_model)
    whole = _ask(server, name)
    stream = client.chat.completions.create(
        model=name, messages=_TURN, temperature=0, max_tokens=20, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole
    (checkpoint, *_) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert _ask(server, checkpoint.fine_tuned_model_checkpoint) is not None
    _is_damaged_alone(server, job.id, name)


def _is_damaged_alone(server: Server, job: str, name: str) -> None:
    """A model whose files are damaged fails by itself; others go on."""
    folder = server.home / "serving" / "jobs" / job / "snapshots"
    damaged = sorted(folder.iterdir())[0]
    (damaged / "adapter_model.safetensors").write_bytes(b"nonsense")
    step = int(damaged.name.removeprefix("step-"))
    with pytest.raises(openai.InternalServerError) as raised:
        _ask(server, f"{name}:ckpt-step-{step}")
    assert str(server.home) not in raised.value.message
    assert _ask(server, "gpt-4o-mini") is not None
    assert _ask(server, name) is not None


def test_a_file_that_spoils_the_model_fails_the_job(server: Server) -> None:
    few = server.upload(rows(3))
    job = server.client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=few)
    failed = server.wait(job.id, "failed", "succeeded")
    assert failed.error.param == "training_file"
    assert "10 are the least" in failed.error.message


def test_answers_must_match_their_schema(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["b", "c"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    found = server.client.chat.completions.create(
        model="tiny",
        messages=_TURN,
        max_tokens=60,
        seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert json.loads(found.choices[0].message.content or "")["a"] in ("b", "c")


def test_the_same_seed_is_the_same_answer(server: Server) -> None:
    drawn = [_ask(server, "gpt-4o-mini", temperature=1, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_preferences(server: Server) -> None:
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": row["user"]}]},
            "preferred_output": [{"role": "assistant", "content": row["assistant"]}],
            "non_preferred_output": [{"role": "assistant", "content": "no."}],
        }
        for row in rows(24)
    ]
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.2}}}
    create = server.client.fine_tuning.jobs.create
    job = create(model="gpt-4o-mini", training_file=server.upload(pairs), method=method)
    done = server.wait(job.id, "succeeded", "failed")
    assert done.status == "succeeded", done.error
    assert _ask(server, done.fine_tuned_model) is not None
    wrong = create(model="gpt-4o-mini", training_file=server.upload(rows()), method=method)
    assert "learns from" in server.wait(wrong.id, "failed", "succeeded").error.message


def test_rewards(server: Server) -> None:
    prompts = [
        {"messages": [{"role": "user", "content": row["user"]}], "letter": "n"} for row in rows(24)
    ]
    grader = {
        "type": "string_check",
        "name": "has",
        "input": "{{sample.output_text}}",
        "operation": "like",
        "reference": "{{item.letter}}",
    }
    settings = {"n_epochs": 1, "batch_size": 4}
    method: Any = {
        "type": "reinforcement",
        "reinforcement": {"grader": grader, "hyperparameters": settings},
    }
    job = server.client.fine_tuning.jobs.create(
        model="gpt-4o-mini", training_file=server.upload(prompts), method=method
    )
    done = server.wait(job.id, "succeeded", "failed")
    assert done.status == "succeeded", done.error
    assert _ask(server, done.fine_tuned_model) is not None


def _long_job(server: Server, **more: Any) -> str:
    file = server.upload(rows(60))
    parameters: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 60}}}
    create = server.client.fine_tuning.jobs.create
    return create(model="gpt-4o-mini", training_file=file, seed=7, method=parameters, **more).id


def _adapter(server: Server, job: str) -> bytes:
    folder = server.home / "serving" / "jobs" / job / job / "model"
    return (folder / "adapter_model.safetensors").read_bytes()


def _is_at(server: Server, job: str, step: int) -> Callable[[], bool]:
    return lambda: any(f"Checkpoint created at step {step}" in m for m in server.messages(job))


def test_pauses_and_kills_change_no_bit(server: Server) -> None:
    whole = _long_job(server)
    assert server.wait(whole, "succeeded", "failed").status == "succeeded"
    paused = _long_job(server)
    until(_is_at(server, paused, 20))
    server.client.fine_tuning.jobs.pause(paused)
    server.wait(paused, "paused")
    server.client.fine_tuning.jobs.resume(paused)
    assert server.wait(paused, "succeeded", "failed").status == "succeeded"
    assert _adapter(server, paused) == _adapter(server, whole)
    killed = _long_job(server)
    until(_is_at(server, killed, 20))
    os.kill(server.worker(killed), signal.SIGKILL)
    assert server.wait(killed, "succeeded", "failed").status == "succeeded"
    assert any("another one goes on" in message for message in server.messages(killed))
    assert _adapter(server, killed) == _adapter(server, whole)


def test_cancel_is_quick(server: Server) -> None:
    job = _long_job(server)
    until(_is_at(server, job, 10))
    worker = server.worker(job)
    began = time.monotonic()
    assert server.client.fine_tuning.jobs.cancel(job).status == "cancelled"
    assert time.monotonic() - began < 2
    assert not psutil.pid_exists(worker)


def test_two_tenants_of_one_engine(server: Server, tmp_path: Path) -> None:
    """What one trains and asks is not there for the other, adapters and cached prompts included."""
    made = {}
    with shared_store(tmp_path / "serving") as store:
        for name in ("acme", "bots"):
            set_project(store, name, None, PerMinute())
            made[name] = create_key(store, NewKey(name))
    other = Server(tmp_path, server.base)
    try:
        other.client.close()
        acme, bots = (
            openai.OpenAI(base_url=other.url, api_key=each["key"], max_retries=0)
            for each in made.values()
        )
        other.client = acme
        job = acme.fine_tuning.jobs.create(
            model="gpt-4o-mini", training_file=other.upload(rows(20)), suffix="nap", seed=1
        )
        model = other.wait(job.id, "succeeded", "failed").fine_tuned_model
        assert model.startswith("ft:gpt-4o-mini:acme:nap:")
        long: Any = [{"role": "user", "content": "who is cat? " * 8}]
        cached = []
        for client in (acme, acme, bots, bots):
            usage = client.chat.completions.create(model="tiny", messages=long, max_tokens=2).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            cached.append(usage.prompt_tokens_details.cached_tokens or 0)
        assert cached[0] == cached[2] == 0 < cached[1] == cached[3]
        assert _ask(other, model)
        for name in (model, f"{model}:ckpt-step-1"):
            with pytest.raises(openai.NotFoundError):
                bots.chat.completions.create(model=name, messages=_TURN)
        assert {each.id for each in bots.models.list()} == {
            each.id for each in acme.models.list() if each.id != model
        }
        with shared_store(tmp_path / "serving") as store:
            rotate_key(store, made["acme"]["id"])
        until(lambda: not _may(acme))
        assert _may(bots)
        bots.close()
    finally:
        other.stop()


def _may(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def test_the_server_is_killed_while_it_trains_and_streams(server: Server) -> None:
    first, second = _long_job(server), _long_job(server, suffix="next")
    until(_is_at(server, first, 10))
    worker = server.worker(first)
    body = {"model": "gpt-4o-mini", "messages": _TURN, "max_tokens": 90, "stream": True}
    with httpx2.stream("POST", f"{server.url}/chat/completions", json=body) as stream:
        next(stream.iter_lines())
        server.kill()
    assert psutil.pid_exists(worker)
    server.start()
    assert server.status(first) in ("running", "succeeded")
    for job in (first, second):
        assert server.wait(job, "succeeded", "failed").status == "succeeded"
        assert _ask(server, server.client.fine_tuning.jobs.retrieve(job).fine_tuned_model or "")
    assert not any("another one" in message for message in server.messages(first))
