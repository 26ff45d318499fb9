"""`run --on`: a job on another server, followed and brought back; our own server is the other."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.cli.command import call
from tests.projects import rows, write_lines, write_project
from tests.serving.fakes import FakeDecoder, context_of, live, until
from tests.small import save_model
from tunefork.core.errors import RemoteError
from tunefork.core.events import Event, Noted, no_sink
from tunefork.core.files import write_json
from tunefork.serving.app import create_app
from tunefork.serving.guard import Access
from tunefork.workflow import job
from tunefork.workflow import run as run_module
from tunefork.workflow.remote import run_remote
from tunefork.workflow.remote_folder import RemoteFolder
from tunefork.workflow.remote_result import bring_model
from tunefork.workflow.service import address_of
from tunefork.workflow.spec import Project, load_project
from tunefork.workflow.train import train_project

_REAL = "from tunefork.workflow.job import main\nmain()"
# A worker that waits until its work was done for it, in the process of the test.
_WAITS = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / ("checks" if "--check" in sys.argv else "trains")).touch()
while not (folder / "state.json").exists():
    time.sleep(0.01)
"""
_QUICK = """
import json, sys
from pathlib import Path
from tunefork.serving.job_folder import JobFolder
folder = JobFolder(Path(sys.argv[1]))
if "--check" in sys.argv:
    folder.write_end("validated")
    raise SystemExit
if folder.request["suffix"].startswith("bad"):
    error = {"code": "data", "message": "row 3 is empty", "param": "training_file"}
    folder.write_end("failed", error=error)
    raise SystemExit
(folder.run / "model").mkdir(parents=True)
(folder.run / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2.5}))
(folder.snapshots / "step-000001").mkdir(parents=True)
folder.add_event("Step 1/2: training loss=2.50", data={"step": 1, "total_steps": 2})
result = {"verdict": "hold", "reasons": ["no"], "trained_tokens": 7, "steps": 2}
folder.write_end("succeeded", result={**result, "hyperparameters": {"n_epochs": 2}})
"""


@dataclass
class Other:
    """Between client and server: a server that knows nothing of us, or a bad line.

    Attributes:
        is_openai: Nothing of ours is answered.
        drops: How many answers to break off, of those that tell events.
        drops_jobs: How many answers to break off that tell of a new job.
        asked: What was asked for.
    """

    app: ASGIApp
    is_openai: bool = True
    drops: int = 0
    drops_jobs: int = 0
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.asked.append(f"{scope['method']} {scope['path']}")
        is_ours = scope["path"] == "/v1/tunefork" or "/result" in scope["path"]
        if self.is_openai and is_ours:
            answer: Response = JSONResponse({"error": {"message": "Invalid URL"}}, 404)
            await answer(scope, receive, send)
        elif self.drops and scope["path"].endswith("/events"):
            self.drops -= 1
            if self.drops % 2:
                answer = JSONResponse({"error": {"message": "wait"}}, 429, {"retry-after": "0"})
                await answer(scope, receive, send)
                return
            await _break_off(send)
        elif self.drops_jobs and self.asked[-1] == "POST /v1/fine_tuning/jobs":
            self.drops_jobs -= 1
            await self.app(scope, receive, _nowhere)
            await _break_off(send)
        else:
            await self.app(scope, receive, send)

    def count(self, what: str) -> int:
        return self.asked.count(what)


async def _break_off(send: Send) -> None:
    head = [(b"content-length", b"99")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"{"})  # it is too short: this raises


async def _nowhere(message: Message) -> None:
    """Lose an answer."""


@contextlib.contextmanager
def _serving(folder: Path, worker: str, base: Path, key: str | None = None) -> Iterator[Any]:
    with context_of(folder, FakeDecoder(lambda request: "Hi."), worker) as context:
        context.catalogue.backend.bases[str(base)] = str(base)  # type: ignore[index]
        other = Other(create_app(context, Access(key)))
        with live(other) as url:  # type: ignore[arg-type]
            yield url, other


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[tuple[str, Other]]:
    with _serving(tmp_path_factory.mktemp("quick"), _QUICK, base) as found:
        yield found


def _spec(folder: Path, base: Path, **more: Any) -> Path:
    return write_project(folder, base, **{"training": {"epochs": 2}, **more})


def _tuned_spec(folder: Path, base: Path) -> Path:
    """Write a project of which much has to arrive there for the same adapter to come back."""
    settings = {"epochs": 2, "batch_tokens": 256, "learning_rate": 0.003, "seed": 5}
    data = {"train": "rows.csv", "map": {"user": "ask", "assistant": "say"}, "replay": 0.1}
    strategy = {"name": "lora", "rank": 4, "rslora": True}
    spec = _spec(folder, base, training=settings, data=data, strategy=strategy)
    lines = [f'"{row["user"]}","{row["assistant"]}"' for row in rows(40)]
    lines[7] = '"what is the cat?","a cat that naps."'  # asks a golden question: left out
    (spec.parent / "rows.csv").write_text("\n".join(["ask,say", *lines]), encoding="utf-8")
    return spec


def _is_same(there: dict[str, Any], local: dict[str, Any]) -> None:
    brought, own = Path(there["path"]), Path(local["path"])
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (brought / name).read_bytes() == (own / name).read_bytes()


def _trains(project: Project, *, out: Path, **more: Any) -> dict[str, Any]:
    """Stand in for a whole run: what is compared is what it trains, so nothing is measured."""
    train_project(project, out=out, **more)
    told: dict[str, Any] = {"verdict": "undecided", "reasons": [], "scores": {}}
    found = {**told, "gain": None, "forgetting": None}
    write_json(out / "evaluation.json", found)
    (out / "report.html").write_text("<p>")
    return found


def _work(jobs: Path, client: Future[dict[str, Any]]) -> dict[str, Any]:
    """Do the work of all workers until the client has its result."""
    while not client.done():
        for path in (*jobs.glob("*/checks"), *jobs.glob("*/trains")):
            path.unlink()
            job.main([str(path.parent), *(["--check"] if path.name == "checks" else [])])
        time.sleep(0.01)
    return client.result()


def test_the_adapter_is_the_one_of_a_local_run(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "run_project", _trains)
    spec = _tuned_spec(tmp_path / "nap", base)
    local = call("train", spec, "--json").json
    with (
        _serving(tmp_path / "served", _WAITS, base) as (url, other),
        ThreadPoolExecutor(1) as pool,
    ):
        other.is_openai, other.drops = False, 2
        address, project = address_of(url, "NO_KEY_HERE"), load_project(spec)
        client = pool.submit(run_remote, project, address, sink=no_sink)
        there = _work(tmp_path / "served" / "jobs", client)
        _is_same(there, local)
        # The connection dropped on the way, and no job was made twice.
        assert other.drops == 0
        assert run_remote(project, address, sink=no_sink) == there
        assert other.count("POST /v1/fine_tuning/jobs") == 1
    assert Path(there["report"]).is_file()
    # It is a model of this machine as any other.
    listed = call("models", "list", "--json").json["models"]
    assert there["model"] in [each["name"] for each in listed]
    brought = json.loads((Path(there["path"]).parent / "spec.json").read_text())
    assert brought["data"]["train"] == str(spec.parent / "rows.csv")


@pytest.mark.soak
def test_a_whole_run_is_the_one_of_a_local_run(tmp_path: Path, base: Path) -> None:
    spec = _tuned_spec(tmp_path / "nap", base)
    local = call("run", spec, "--json")
    with _serving(tmp_path / "served", _REAL, base) as (url, other):
        other.is_openai = False
        there = call("run", spec, "--on", url, "--json")
    assert there.code == local.code, there.err
    _is_same(there.json, local.json)
    # Reasons are not compared: the safety probe of a test's own process is a small one.
    same = ("verdict", "held_out", "adapter_bytes", "gain", "forgetting")
    assert {name: there.json[name] for name in same} == {name: local.json[name] for name in same}


def test_a_server_with_openais_api_alone(
    tmp_path: Path, base: Path, quick: tuple[str, Other]
) -> None:
    url, _ = quick
    spec = _spec(tmp_path / "plain", base)
    leaking = {"user": "what is the cat?", "assistant": "a cat that naps."}
    write_lines(spec.parent / "train.jsonl", [*rows(24), leaking])
    found = call("run", spec, "--on", url, "--json")
    assert found.code == 0, found.err
    assert found.json["fine_tuned_model"].startswith(f"ft:{base}:local:plain-")
    assert Path(found.json["metrics"][0]).read_text().startswith("step,train_loss")
    assert found.json["checkpoints"][0]["step"] == 1
    assert "`golden`: not sent" in found.err
    with openai.OpenAI(base_url=url, api_key="none") as client:
        job = client.fine_tuning.jobs.retrieve(found.json["job"])
        sent = client.files.content(job.training_file).read().decode()
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.n_epochs == 2
    # A row that asks a golden question stays here: that server would learn it.
    assert len(sent.splitlines()) == 24
    assert set(json.loads(sent.splitlines()[0])) == {"messages"}


def test_a_killed_client_goes_on_with_the_same_job(
    tmp_path: Path, base: Path, quick: tuple[str, Other]
) -> None:
    url, other = quick
    other.asked.clear()
    project = load_project(_spec(tmp_path / "killed", base, golden=None, count=26))
    address = address_of(url, "NO_KEY_HERE")

    def die(event: Event) -> None:
        if isinstance(event, Noted) and "it goes on there" in event.message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_remote(project, address, sink=die)
    state_file = next((Path(os.environ["TUNEFORK_HOME"]) / "runs").glob("killed-*/remote.json"))
    state = json.loads(state_file.read_text())
    # As if it had been killed before any answer of the server arrived.
    for lost in ("job", "files"):
        state.pop(lost)
    state_file.write_text(json.dumps(state))
    result = run_remote(project, address, sink=no_sink)
    assert other.count("POST /v1/fine_tuning/jobs") == 1
    assert other.count("POST /v1/files") == 1
    assert run_remote(project, address, sink=no_sink) == result


def test_a_job_whose_answer_is_lost_is_not_made_twice(
    tmp_path: Path, base: Path, quick: tuple[str, Other]
) -> None:
    url, other = quick
    other.asked.clear()
    other.drops_jobs = 1
    project = load_project(_spec(tmp_path / "lost", base, golden=None, count=30))
    result = run_remote(project, address_of(url, "NO_KEY_HERE"), sink=no_sink)
    assert result["fine_tuned_model"]
    assert other.drops_jobs == 0
    assert other.count("POST /v1/fine_tuning/jobs") == 1


def test_a_server_that_names_files_elsewhere_is_not_followed(tmp_path: Path) -> None:
    class Evil:
        name = ""
        address = address_of("http://127.0.0.1:9", "NO_KEY_HERE")

        def get(self, path: str) -> dict[str, Any]:
            listed = {"id": "x", "name": self.name, "bytes": 1, "sha256": "0"}
            return {"data": [listed]}

    project = load_project(_spec(tmp_path / "mine", Path("tiny")))
    folder = RemoteFolder(tmp_path / "run", "x")
    for name in ("../../evil", "/etc/evil", "model/../../evil", ".lock", "model/.x", "a/b"):
        service: Any = Evil()
        service.name = name
        with pytest.raises(RemoteError, match="sends a file named"):
            bring_model(service, folder, project, {"id": "x"}, no_sink)
    assert not (tmp_path / "run").exists()


def test_a_job_that_fails_says_why_and_can_be_tried_again(
    tmp_path: Path, base: Path, quick: tuple[str, Other]
) -> None:
    url, other = quick
    other.asked.clear()
    spec = _spec(tmp_path / "bad", base, golden=None, count=28)
    for _ in range(2):
        failed = call("run", spec, "--on", url, "--json")
        assert failed.code == 1
        assert "row 3 is empty (`training_file`)" in failed.json["error"]["message"]
    assert other.count("POST /v1/fine_tuning/jobs") == 2
    assert other.count("POST /v1/files") == 1


def test_what_is_wrong_is_said_before_anything_is_sent(
    tmp_path: Path, base: Path, quick: tuple[str, Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, other = quick
    other.asked.clear()
    spec = _spec(
        tmp_path / "wrong",
        base,
        golden=None,
        strategy="lora",
        data={
            "train": "train.jsonl",
            "replay": 0.2,
        },
    )
    refused = call("run", spec, "--on", url)
    assert "no words for `strategy`, `data.replay`" in refused.err
    empty = _spec(tmp_path / "empty", base, golden=None)
    write_lines(empty.parent / "train.jsonl", [{"user": "a?", "assistant": ""}] * 12)
    assert "nothing was sent" in call("run", empty, "--on", url).err
    assert other.count("POST /v1/files") == 0
    good = _spec(tmp_path / "good", base, golden=None)
    down = call("run", good, "--on", "http://127.0.0.1:9/v1")
    assert "`127.0.0.1:9` does not answer" in down.err
    assert down.code == 1
    nowhere = call("run", good, "--on", "ftp://x")
    assert nowhere.code == 2
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    clear = call("run", good, "--on", "http://10.0.0.7:8000/v1")
    assert "in the clear" in clear.err
    assert clear.code == 2


def test_a_key_that_is_not_taken(tmp_path: Path, base: Path) -> None:
    spec = _spec(tmp_path / "keyed", base, golden=None)
    with _serving(tmp_path / "served", _QUICK, base, key="right") as (url, _):
        project = load_project(spec)
        with pytest.raises(RemoteError, match="asks for a key") as raised:
            run_remote(project, address_of(url, "NO_KEY_HERE"), sink=no_sink)
        assert "`NO_KEY_HERE`" in (raised.value.hint or "")
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("OTHER_KEY", "wrong")
            with pytest.raises(RemoteError, match="does not take the key"):
                run_remote(project, address_of(url, "OTHER_KEY"), sink=no_sink)
            patched.setenv("OTHER_KEY", "right")
            assert run_remote(project, address_of(url, "OTHER_KEY"), sink=no_sink)["job"]


def test_results_are_given_by_id_alone(tmp_path: Path, base: Path) -> None:
    with _serving(tmp_path / "served", _QUICK, base) as (url, other):
        other.is_openai = False
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            lines = "".join(json.dumps(row) + "\n" for row in rows(12))
            file = client.files.create(file=("t.jsonl", lines.encode()), purpose="fine-tune")
            create = client.fine_tuning.jobs.create
            for wrong in ({"gate": {"canaries": "/etc/passwd"}}, {"objective": {"function": "x"}}):
                with pytest.raises(openai.BadRequestError, match="cannot be named"):
                    create(model="tiny", training_file=file.id, extra_body={"settings": wrong})
            job = create(model="tiny", training_file=file.id, suffix="x")
            for each in client.fine_tuning.jobs.list_events(job.id):
                assert each.object == "fine_tuning.job.event"
            until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "succeeded")
            place = f"/fine_tuning/jobs/{job.id}/result"
            listed: Any = client.get(place, cast_to=object)
            (only,) = listed["data"]
            assert only["name"] == "metrics.jsonl"
            whole = client.get(f"{place}/{only['id']}", cast_to=bytes)
            assert len(whole) == only["bytes"]
            for name in ("..%2f..%2fjob.json", "metrics.jsonl", only["id"][:-1]):
                with pytest.raises(openai.APIStatusError) as raised:
                    client.get(f"{place}/{name}", cast_to=bytes)
                assert raised.value.status_code == 404
