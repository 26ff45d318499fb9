"""What an operator sees of a server: whether it is well, its numbers, its log, and its end."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from sqlalchemy import select

from tests.serving.fakes import FakeBackend, FakeDecoder, context_of, live, until
from tunefork.core.errors import InternalError, TuneforkError
from tunefork.inference.engine import EngineStats, Request
from tunefork.serving.app import create_app
from tunefork.serving.callers import Scope
from tunefork.serving.context import Context
from tunefork.serving.guard import Access
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.keys import NewKey, create_key
from tunefork.serving.listen import Place, listen
from tunefork.serving.logs import JsonLines, Lines
from tunefork.serving.metrics import Metrics
from tunefork.serving.ready import Readiness
from tunefork.serving.tables import JobRow

_SECRET = "the-launch-code-is-4711"
_KEY = {"authorization": "Bearer right"}


def _answer(request: Request) -> str | TuneforkError:
    if request.sampling.max_tokens == 13:
        return InternalError("the engine failed")
    if request.sampling.max_tokens == 14:
        raise ValueError(f"cannot read {_SECRET}")
    return "forever" if request.sampling.max_tokens > 500 else f"Hi, {_SECRET}."


@pytest.fixture(scope="module")
def decoder() -> FakeDecoder:
    return FakeDecoder(_answer)


@pytest.fixture(scope="module")
def context(decoder: FakeDecoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    with context_of(tmp_path_factory.mktemp("serving"), decoder) as context:
        yield context


@pytest.fixture(scope="module")
def web(context: Context) -> Iterator[httpx2.Client]:
    with (
        live(create_app(context, Access("right"))) as url,
        httpx2.Client(base_url=url.removesuffix("/v1"), headers=_KEY, timeout=30) as web,
    ):
        yield web


def _chat(web: httpx2.Client, text: str = "Hello?", **more: Any) -> httpx2.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}
    return web.post("/v1/chat/completions", json=body)


def _numbers(web: httpx2.Client) -> dict[str, float]:
    """Return every series by its name and labels."""
    answer = web.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_anybody_may_ask_whether_it_is_well(web: httpx2.Client) -> None:
    with httpx2.Client(base_url=web.base_url) as stranger:
        assert stranger.get("/health").json() == {"status": "ok"}
        found = stranger.get("/ready")
        assert found.status_code == 200
        assert found.json()["status"] == "ready"
        assert all(isinstance(value, bool) for value in found.json()["checks"].values())
        assert stranger.get("/metrics").status_code == 401


@pytest.mark.parametrize("check", ["engines", "database", "disk", "jobs", "open"])
def test_it_is_not_ready_where_one_thing_is_not_well(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = FakeDecoder(_answer)
    monkeypatch.setattr("tunefork.serving.store._PATIENCE_MS", 20)
    with (
        context_of(tmp_path, decoder) as context,
        closing(sqlite3.connect(tmp_path / "serving.db")) as other,
    ):
        assert all(Readiness(context).checks().values())
        if check == "engines":
            decoder.counted = dataclasses.replace(decoder.counted, is_alive=False)
        elif check == "database":
            other.execute("BEGIN IMMEDIATE")
        elif check == "disk":
            monkeypatch.setattr("tunefork.serving.ready.LEAST_FREE_BYTES", 2**62)
        elif check == "jobs":
            context.keeper.close()
        else:
            context.ending.set()
        found = Readiness(context).checks()
        assert [name for name, is_well in found.items() if not is_well] == [check]


def test_what_requests_cost_is_counted(web: httpx2.Client, decoder: FakeDecoder) -> None:
    decoder.counted = EngineStats(
        running=2,
        waiting=3,
        answers=5,
        failures=1,
        prompt_tokens=100,
        cached_tokens=40,
        completion_tokens=70,
        steps=80,
        tokens_per_second=1.0,
        prefix_bytes=4096,
        adapters_known=3,
        adapters_resident=2,
        adapter_bytes=512,
        is_alive=True,
        adapter_loads=4,
        adapter_evictions=2,
    )
    before = _numbers(web)
    assert _chat(web).status_code == 200
    assert _chat(web, model="nobody").status_code == 404
    found = _numbers(web)

    def grew(series: str) -> float:
        return found[series] - before.get(series, 0)

    chat = 'method="POST",route="/v1/chat/completions"'
    assert grew(f'tunefork_http_requests_total{{{chat},status="200"}}') == 1
    assert grew(f'tunefork_http_requests_total{{{chat},status="404"}}') == 1
    assert grew('tunefork_http_request_seconds_count{route="/v1/chat/completions"}') == 2
    assert found["tunefork_http_requests_in_progress"] == 1  # the scrape itself
    assert found['tunefork_engine_rows{base="tiny",state="waiting"}'] == 3
    assert found['tunefork_completion_tokens_total{base="tiny"}'] == 70
    assert found['tunefork_cached_tokens_total{base="tiny"}'] == 40
    assert found['tunefork_adapter_evictions_total{base="tiny"}'] == 2
    assert found['tunefork_adapters_resident{base="tiny"}'] == 2
    assert found['tunefork_jobs{status="failed"}'] == 0
    assert found['tunefork_ready{check="database"}'] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_there_are_only_so_many_series(web: httpx2.Client) -> None:
    def ask(name: str) -> None:
        _chat(web, model=f"{_SECRET}-{name}")
        web.get(f"/v1/files/{_SECRET}-{name}")
        web.get(f"/{name}")
        web.request(name.upper(), "/v1/models")

    ask("a")
    before = _numbers(web).keys()
    for name in ("b", "c", "d", "e"):
        ask(name)
    assert _numbers(web).keys() == before
    assert not any(_SECRET in series for series in before)


def test_what_was_counted_stays_when_a_base_leaves_memory(tmp_path: Path) -> None:
    decoder = FakeDecoder(_answer)
    with context_of(tmp_path, decoder) as context:
        backend = context.catalogue.backend
        assert isinstance(backend, FakeBackend)
        metrics = Metrics(context, Readiness(context))

        def written() -> str:
            (line,) = re.findall(r"^tunefork_completion_tokens_total.*$", metrics.text(), re.M)
            return str(line).rpartition(" ")[2]

        decoder.counted = dataclasses.replace(decoder.counted, completion_tokens=70)
        assert written() == "70.0"
        (host,) = backend.in_memory
        backend.in_memory = []
        assert [written(), written()] == ["70.0", "70.0"]
        again = FakeDecoder(_answer, counted=decoder.counted)
        backend.in_memory = [dataclasses.replace(host, decoder=again)]
        assert [written(), written()] == ["140.0", "140.0"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_finds_nothing_to_complain_of(web: httpx2.Client) -> None:
    _chat(web)
    text = web.get("/metrics").text
    command = ["promtool", "check", "metrics"]
    found = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


class _Log:
    """What the log says from here on."""

    def __init__(self, form: Callable[..., logging.Formatter], tells_content: bool) -> None:
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(form(tells_content=tells_content))

    def __enter__(self) -> _Log:
        logger = logging.getLogger("tunefork")
        self._level = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self._handler)
        return self

    def __exit__(self, *failure: object) -> None:
        logger = logging.getLogger("tunefork")
        logger.setLevel(self._level)
        logger.removeHandler(self._handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def requests(self, count: int) -> list[dict[str, Any]]:
        """Wait for the lines of that many requests: a line comes behind its answer."""
        until(lambda: len(self._requests()) >= count)
        return self._requests()

    def _requests(self) -> list[dict[str, Any]]:
        # What ends without a line's end is still being written.
        written = self.text.rpartition("\n")[0]
        lines = [json.loads(line) for line in written.splitlines()]
        return [line for line in lines if line["event"] == "request"]


def _say_the_secret(web: httpx2.Client) -> None:
    """Ask in every way in which what is asked or answered might come to the log."""
    _chat(web, _SECRET, max_tokens=50)
    _chat(web, _SECRET, max_tokens=50, stream=True)
    _chat(web, _SECRET, temperature=_SECRET)
    _chat(web, _SECRET, max_tokens=13)
    _chat(web, _SECRET, max_tokens=13, stream=True)
    _chat(web, _SECRET, max_tokens=14)  # nobody thought of it, and the error quotes the request
    _chat(web, _SECRET, model="broken")
    _chat(web, _SECRET, model=_SECRET)
    web.post("/v1/chat/completions", content=b'{"model": "' + _SECRET.encode())
    web.post("/v1/completions", json={"model": "tiny", "prompt": _SECRET, "max_tokens": 50})
    web.post("/v1/responses", json={"model": "tiny", "input": _SECRET})
    web.post("/v1/embeddings", json={"model": "vectors", "input": _SECRET})
    web.post("/v1/files", files={"file": ("a.jsonl", _SECRET)}, data={"purpose": "fine-tune"})
    web.get(f"/v1/{_SECRET}?{_SECRET}={_SECRET}")


def test_the_log_has_a_line_for_each_request(web: httpx2.Client) -> None:
    with _Log(JsonLines, False) as log:
        named = web.get("/v1/models", headers={"x-request-id": "mine-1"})
        odd = web.get("/v1/models", headers={"x-request-id": "a b\t{}"})
        answered = _chat(web, max_tokens=50)
        web.get("/health")
        web.get("/metrics")
        web.get("/nothing")
        lines = log.requests(4)
    assert named.headers["x-request-id"] == "mine-1"
    assert re.fullmatch(r"req_\w{24}", odd.headers["x-request-id"])
    assert [line["request_id"] for line in lines[:2]] == ["mine-1", odd.headers["x-request-id"]]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models", 200),
        ("POST", "/v1/chat/completions", 200),
        ("GET", "unmatched", 404),
    ]
    usage = answered.json()["usage"]
    assert lines[2]["prompt_tokens"] == usage["prompt_tokens"]
    assert lines[2]["completion_tokens"] == usage["completion_tokens"]
    assert all(line["seconds"] >= 0 and line["whole"] for line in lines)


def test_the_log_tells_whose_a_request_is(context: Context, web: httpx2.Client) -> None:
    keys = {
        scope: create_key(context.store, NewKey("local", scope, (scope,)))
        for scope in get_args(Scope)
    }
    with _Log(JsonLines, False) as log:
        for scope, made in keys.items():
            bearer = {"authorization": f"Bearer {made['key']}"}
            assert web.get("/v1/files", headers=bearer).status_code == (
                200 if scope == "read" else 403
            )
            may_scrape = web.get("/metrics", headers=bearer).status_code
            assert may_scrape == (200 if scope == "admin" else 403)
        web.get("/v1/files", headers={"authorization": f"Bearer {keys['read']['key']}x"})
        lines = log.requests(2 * len(keys))  # a scrape that is answered has no line
    assert [
        (line["key"], line["organisation"]) for line in lines if line["status"] in (200, 401)
    ] == [
        (keys["read"]["id"], "org-local"),
        (None, None),  # nobody's
    ]
    assert not any(made["key"] in log.text for made in keys.values())


@pytest.mark.parametrize("form", [JsonLines, Lines])
def test_no_content_comes_to_the_log(web: httpx2.Client, form: Any) -> None:
    with _Log(form, False) as log:
        _say_the_secret(web)
        until(lambda: "unmatched" in log.text)
    assert _SECRET not in log.text
    assert log.text.count("ValueError") == 1  # what went wrong is told, with its place
    assert "test_operations.py" in log.text


def test_content_comes_to_the_log_where_it_is_asked_for(context: Context) -> None:
    app = create_app(context, Access("right"), logs_content=True)
    with (
        _Log(JsonLines, True) as log,
        live(app) as url,
        httpx2.Client(base_url=url.removesuffix("/v1"), headers=_KEY) as web,
    ):
        _chat(web, "and you?", max_tokens=50)
        _chat(web, "and you?", max_tokens=14)
        web.post("/v1/files", files={"file": ("a.jsonl", "in-a-file")}, data={"purpose": "evals"})
        first, failed, upload = log.requests(3)
    assert "and you?" in first["asked"]
    assert _SECRET in first["said"]
    assert failed["status"] == 500
    assert f"cannot read {_SECRET}" in log.text
    assert "in-a-file" not in (upload["asked"] or "")  # files are data, not messages


def _serve_and(context: Context, drain_s: int, act: Callable[[str], None]) -> None:
    """Listen in this thread as the program does, and let another one be the client."""
    said: list[str] = []
    is_there = threading.Event()
    failures: list[BaseException] = []

    def say(url: str) -> None:
        said.append(url)
        is_there.set()

    def client() -> None:
        try:
            assert is_there.wait(20)
            act(said[0])
        except BaseException as error:  # noqa: BLE001  told below
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=client)
    thread.start()
    listen(create_app(context, Access()), Place(port=0, drain_s=drain_s), say)
    thread.join()
    assert not failures, failures


def _stream(url: str, n_tokens: int, on_first: Callable[[], None]) -> str:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True}
    found: list[str] = []
    with httpx2.stream(
        "POST", f"{url}/chat/completions", json={**body, "max_tokens": n_tokens}, timeout=30
    ) as stream:
        try:
            for line in stream.iter_lines():
                if not found:
                    on_first()
                found.append(line)
        except httpx2.RemoteProtocolError:
            found.append("cut")
    return found[-1] or found[-2]


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_runs_is_answered_to_its_end(tmp_path: Path) -> None:
    worker = "import time; time.sleep(60)"
    with context_of(tmp_path, FakeDecoder(_answer), worker) as context:
        row = JobRow(
            id="ftjob-x",
            owner="local",
            state="running",
            created=1,
            model="tiny",
            base="tiny",
            request={},
            training_file="file-x",
            fingerprint="x",
        )
        (tmp_path / "jobs" / "ftjob-x").mkdir()
        JobFolder(tmp_path / "jobs" / "ftjob-x").add_event("begun")

        def has_begun() -> bool:
            with context.store.reading() as session:
                return session.scalar(select(JobRow.pid)) is not None

        def act(url: str) -> None:
            with context.store.writing() as session:
                session.add(row)
            until(has_begun)  # a worker of this very server: it must not hold the port
            events = f"{url}/fine_tuning/jobs/ftjob-x/events?stream=true"
            with httpx2.stream("GET", events, timeout=30) as stream:
                lines = stream.iter_lines()
                next(lines)
                assert _stream(url, 900, _end) == "data: [DONE]"
                assert "data: [DONE]" not in list(lines)  # the job is not over, the server is
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"{url}/models")

        _serve_and(context, 60, act)
        context.keeper.ask("ftjob-x", "cancel")


def test_there_is_an_end_to_waiting(tmp_path: Path) -> None:
    with context_of(tmp_path, FakeDecoder(_answer)) as context:
        ends: list[str] = []
        _serve_and(context, 0, lambda url: ends.append(_stream(url, 900, _end)))
        assert ends == ["cut"]
