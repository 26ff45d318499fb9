"""Two tenants: what one has is, for the other and for strangers, what does not exist."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.serving.fakes import SUCCEED, FakeDecoder, context_of, live, until
from tunefork.graders.sandbox import Verification, verify
from tunefork.serving.app import create_app
from tunefork.serving.callers import Scope
from tunefork.serving.graded import Programs
from tunefork.serving.guard import Access
from tunefork.serving.ids import new_id
from tunefork.serving.keys import NewKey, PerMinute, create_key, set_project
from tunefork.serving.store import Store

_IDS = re.compile(
    r"(?:file-|ftjob-|eval_|evalrun_|outputitem_|ftckpt-|ftevent-|ftresult-|proj_|key_)\w{24}"
)
_TUNED = re.compile(r"ft:[\w:.-]+")
_VOLATILE = re.compile(r'"(?:created_at|execution_time|seed)":\s*[0-9.e-]+')
_SECRET = "the cat's name is {owner}-secret"


@dataclass
class Tenant:
    """A project with something of each kind, and the ids that it knows."""

    name: str
    key: str
    read_key: str
    ids: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Shared:
    """A server that both use."""

    web: httpx2.Client
    document: dict[str, Any]
    tenants: tuple[Tenant, Tenant]
    store: Store
    decoder: FakeDecoder

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield method.upper(), path, operation


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    decoder = FakeDecoder(lambda request: "0.5")
    with context_of(tmp_path_factory.mktemp("serving"), decoder, SUCCEED) as context:
        app = create_app(context, Access())
        store = context.store
        tenants = _tenant(store, "acme"), _tenant(store, "bots")
        with live(app) as url, httpx2.Client(base_url=url.removesuffix("/v1"), timeout=30) as web:
            for each in tenants:
                _fill(web, each)
            yield Shared(web, app.openapi(), tenants, store, decoder)


def _tenant(store: Store, name: str) -> Tenant:
    set_project(store, name, None, PerMinute())
    return Tenant(name, _key(store, name), _key(store, name, scopes=("read",)))


def _key(store: Store, project: str, **settings: Any) -> str:
    return str(create_key(store, NewKey(project, **settings))["key"])


def _fill(web: httpx2.Client, tenant: Tenant) -> None:
    """Make something of each kind, and note what it is called."""

    def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = web.post(path, json=body, headers={**tenant.headers, "idempotency-key": "same"})
        assert answer.status_code < 300, answer.text
        return dict(answer.json())

    def get(path: str) -> dict[str, Any]:
        return dict(web.get(path, headers=tenant.headers).json())

    line = {"user": "q", "assistant": _SECRET.format(owner=tenant.name)}
    rows = "".join(json.dumps(line) + "\n" for _ in range(12))
    upload = web.post(
        "/v1/files",
        files={"file": (f"{tenant.name}-secret.jsonl", rows.encode())},
        data={"purpose": "fine-tune"},
        headers=tenant.headers,
    )
    ids = {"file_id": upload.json()["id"]}
    job = post("/v1/fine_tuning/jobs", _job(ids["file_id"]))
    ids["job_id"] = job["id"]
    until(lambda: get(f"/v1/fine_tuning/jobs/{job['id']}")["status"] == "succeeded")
    job = get(f"/v1/fine_tuning/jobs/{job['id']}")
    ids |= {"model": job["fine_tuned_model"], "result_file": job["result_files"][0]}
    made = post("/v1/evals", _eval(f"{tenant.name}-secret"))
    ids["eval_id"] = made["id"]
    run = post(f"/v1/evals/{made['id']}/runs", _run(ids))
    ids["run_id"] = run["id"]
    at = f"/v1/evals/{made['id']}/runs/{run['id']}"
    until(lambda: get(at)["status"] == "completed")
    ids["item_id"] = get(f"{at}/output_items")["data"][0]["id"]
    checkpoints = get(f"/v1/fine_tuning/jobs/{job['id']}/checkpoints")["data"]
    ids["checkpoint"] = checkpoints[0]["fine_tuned_model_checkpoint"]
    events = get(f"/v1/fine_tuning/jobs/{job['id']}/events")["data"]
    ids["result_id"] = get(f"/v1/fine_tuning/jobs/{job['id']}/result")["data"][0]["id"]
    tenant.ids = {**ids, "event": events[0]["id"], "kept": checkpoints[0]["id"]}
    tenant.known = set(tenant.ids.values())


def _grader(model: str) -> dict[str, Any]:
    turn = {"role": "user", "content": "Rate this: {{sample.output_text}}"}
    return {"type": "score_model", "name": "x", "model": model, "range": [0, 1], "input": [turn]}


def _job(file: str) -> dict[str, Any]:
    return {"model": "tiny", "training_file": file, "suffix": "same"}


def _eval(name: str) -> dict[str, Any]:
    config = {"type": "custom", "item_schema": {"type": "object"}}
    return {"name": name, "data_source_config": config, "testing_criteria": [_grader("tiny")]}


def _run(ids: dict[str, str]) -> dict[str, Any]:
    template = [{"type": "message", "role": "user", "content": "{{item.q}}"}]
    rows = [{"item": {"q": "Hello?"}}]
    return {
        "data_source": {
            "type": "completions",
            "model": ids["model"],
            "source": {"type": "file_content", "content": rows},
            "input_messages": {"type": "template", "template": template},
        }
    }


def _bodies(path: str, ids: dict[str, str]) -> list[dict[str, Any]]:
    """Return bodies that name things, for a path that takes one."""
    model, file = ids["model"], ids["file_id"]
    turns = [{"role": "user", "content": "x"}]
    by_file = {"type": "jsonl", "source": {"type": "file_id", "id": file}}
    known: dict[str, list[dict[str, Any]]] = {
        "/v1/chat/completions": [
            {"model": name, "messages": turns, "max_tokens": 1}
            for name in (model, ids["checkpoint"])
        ],
        "/v1/completions": [{"model": model, "prompt": "x", "max_tokens": 1}],
        "/v1/responses": [{"model": model, "input": "x", "max_output_tokens": 1}],
        "/v1/embeddings": [{"model": model, "input": "x"}],
        "/v1/fine_tuning/jobs": [
            _job(file),  # the very request that made a job
            _job(ids["result_file"]),
            {"model": model, "training_file": file},
            {**_job(file), "settings": {"objective": {"name": "grpo", "grader": _grader(model)}}},
        ],
        "/v1/fine_tuning/alpha/graders/run": [{"grader": _grader(model), "model_sample": "x"}],
        "/v1/fine_tuning/alpha/graders/validate": [{"grader": _grader(model)}],
        "/v1/evals": [_eval("x")],  # what a grader names is looked up when it asks
        "/v1/evals/{eval_id}/runs": [_run(ids), {"data_source": by_file}],
        "/v1/files": [],  # a form that names nothing
    }
    return known[path]


def _made_up(ids: dict[str, str]) -> dict[str, str]:
    """Return ids of the same form that nobody has."""
    found = {}
    for what, name in ids.items():
        if name.startswith("ft:"):
            head, _, rest = name.rpartition(":ckpt-") if ":ckpt-" in name else (name, "", "")
            made = head[:-10] + new_id("")[:10]
            found[what] = f"{made}:ckpt-{rest}" if rest else made
        else:
            prefix = name[: -len(name.lstrip("abcdefghijklmnopqrstuvwxyz")) or None]
            found[what] = new_id(prefix + name[len(prefix)])
    return found


@dataclass(frozen=True)
class Case:
    """A request that names things of somebody else."""

    method: str
    url: str
    body: dict[str, Any] | None = None
    by_path: bool = False


def _cases(shared: Shared, own: dict[str, str], strange: dict[str, str]) -> Iterator[Case]:
    """Yield every operation with each of its ids, then all of them, somebody else's."""
    for method, path, operation in shared.operations():
        slots = re.findall(r"{(\w+)}", path)
        for chosen in [(slot,) for slot in slots] + ([tuple(slots)] if len(slots) > 1 else []):
            ids = {**own, **{slot: strange[slot] for slot in chosen}}
            bodies = _bodies(path, own) if "requestBody" in operation else [None]
            for body in bodies:
                yield Case(method, _url(path, ids), body, by_path=True)
        if "requestBody" in operation:
            for body in _bodies(path, strange):
                yield Case(method, _url(path, own), body)
        if any(each["name"] == "after" for each in operation.get("parameters", [])):
            for after in ("file_id", "job_id", "eval_id", "run_id", "item_id", "event", "kept"):
                yield Case(method, f"{_url(path, own)}?after={strange[after]}")
    yield Case("GET", f"/v1/files/{strange['result_file']}/content", by_path=True)
    yield Case("GET", f"/v1/models/{quote(strange['checkpoint'])}", by_path=True)


def _url(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda slot: quote(ids[slot[1]]), path)


def _ask(shared: Shared, case: Case, key: str | None) -> httpx2.Response:
    headers = {"idempotency-key": "same"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return shared.web.request(case.method, case.url, json=case.body, headers=headers)


def _scrubbed(answer: httpx2.Response, strange: dict[str, str]) -> tuple[Any, ...]:
    """Return an answer without what was sent, and what is new each time."""
    text = answer.text
    for what in sorted(strange, key=lambda each: -len(strange[each])):
        text = text.replace(strange[what], f"<{what}>")
    text = _VOLATILE.sub("", _IDS.sub("<new>", text))
    plain = {"date", "x-request-id", "content-length"}
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in plain)
    return answer.status_code, headers, text


def test_every_operation_is_asked(shared: Shared) -> None:
    """A new endpoint with a new kind of id, or a body, has to be told to this file."""
    for _, path, operation in shared.operations():
        assert set(re.findall(r"{(\w+)}", path)) <= shared.tenants[0].ids.keys()
        if "requestBody" in operation:
            assert isinstance(_bodies(path, shared.tenants[0].ids), list)


def test_lists_are_of_ones_own(shared: Shared) -> None:
    theirs, mine = shared.tenants
    keys = {mine.key: 200, mine.read_key: 200, mine.key[:-4] + "AAAA": 401, None: 401}
    for method, path, _ in shared.operations():
        if method == "GET" and "{" not in path:
            for key, status in keys.items():
                answer = _ask(shared, Case(method, path), key)
                right = {"/metrics": 403, "/health": 200, "/ready": 200}.get(path, status)
                assert answer.status_code == (
                    401 if path == "/metrics" and key not in (mine.key, mine.read_key) else right
                )
                assert "acme" not in answer.text
                assert not theirs.known & set(_IDS.findall(answer.text))


def test_nothing_of_another_is_seen(shared: Shared) -> None:
    """Every endpoint, with each id another tenant's, by each kind of key: as if it were made up."""
    theirs, mine = shared.tenants
    before = _everything(shared, theirs)
    made_up = _made_up(theirs.ids)
    wrong = mine.key[:-4] + "AAAA"
    expired = _key(shared.store, mine.name, lasts_s=0)
    pairs = list(
        zip(
            _cases(shared, mine.ids, theirs.ids),
            _cases(shared, mine.ids, made_up),
            strict=True,
        )
    )
    assert len(pairs) > 80
    for (real, fake), (who, key) in itertools.product(
        pairs,
        {
            "right": mine.key,
            "read": mine.read_key,
            "none": None,
            "wrong": wrong,
            "expired": expired,
        }.items(),
    ):
        got, other = _ask(shared, real, key), _ask(shared, fake, key)
        seen = _scrubbed(got, theirs.ids)
        assert seen == _scrubbed(other, made_up), (who, real)
        assert "acme" not in seen[2], (who, real)
        if who in ("none", "wrong", "expired"):
            assert got.status_code == 401, (who, real)
        elif who == "read" and real.method != "GET":
            assert got.status_code == 403, (who, real)
        elif real.by_path:
            assert got.status_code == 404, (who, real, got.text)
        else:
            assert got.status_code in (200, 201, 400, 404), (who, real, got.text)
    assert _everything(shared, theirs) == before
    assert {request.owner for request in shared.decoder.requests} == {
        row.owner for row in _owners(shared)
    }


def _owners(shared: Shared) -> list[Any]:
    from sqlalchemy import select

    from tunefork.serving.tables import JobRow

    with shared.store.reading() as session:
        return list(session.scalars(select(JobRow)))


def _everything(shared: Shared, tenant: Tenant) -> dict[str, str]:
    """Return all that a tenant can look at."""
    found = {}
    for method, path, _ in shared.operations():
        if method == "GET" and path not in ("/health", "/ready", "/metrics"):
            answer = shared.web.get(_url(path, tenant.ids), headers=tenant.headers)
            assert answer.status_code == 200, (path, answer.text)
            found[path] = answer.text
    return found


def test_two_who_do_anything_never_learn_an_id_of_each_other(shared: Shared) -> None:
    random_ = random.Random(5)
    operations = list(shared.operations())
    for _ in range(150):
        who = random_.randrange(2)
        mine, theirs = shared.tenants[who], shared.tenants[1 - who]
        method, path, operation = random_.choice(operations)
        if method == "DELETE":
            continue  # or there would soon be nothing left
        ids = {
            what: random_.choice([mine.ids[what], theirs.ids[what], "x", new_id("file-")])
            for what in mine.ids
        }
        body = None
        if "requestBody" in operation and (bodies := _bodies(path, ids)):
            body = random_.choice(bodies)
        url = _url(path, ids)
        if random_.random() < 0.3:
            url += f"?after={random_.choice(list(ids.values()))}&limit={random_.randrange(1, 9)}"
        answer = _ask(shared, Case(method, url, body), mine.key)
        assert answer.status_code < 500, answer.text
        learned = {*_IDS.findall(answer.text), *_TUNED.findall(answer.text)}
        sent = {*ids.values()}
        assert not (learned & theirs.known) - sent, (method, url, body, answer.text)
        if answer.status_code < 300:
            assert not learned & sent & theirs.known or path.endswith(
                ("/run", "/validate", "evals")
            )
            mine.known |= learned - theirs.known
    assert not shared.tenants[0].known & shared.tenants[1].known


def test_no_text_of_a_request_is_opened(shared: Shared) -> None:
    """Whatever stands in a request, no call to the file system is given it."""
    touched: list[tuple[str, Any]] = []
    mark = "zz-probe-zz"
    watching = True

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        is_file_call = name == "open" or name.startswith(("os.", "shutil.", "glob.", "pathlib."))
        if watching and is_file_call and any(mark in str(each) for each in arguments):
            touched.append((name, arguments))

    sys.addaudithook(hook)  # it cannot be taken back, only told to look away
    places = (f"/tmp/{mark}", f"../../{mark}", f"file:///{mark}")
    for place, (method, path, operation) in itertools.product(places, shared.operations()):
        ids = dict.fromkeys(shared.tenants[0].ids, place)
        bodies = _bodies(path, ids) if "requestBody" in operation else [None]
        if path.endswith("graders/run"):
            schema = {"type": "json_schema", "schema": {"$ref": place}}
            bodies = [*bodies, {"grader": schema, "model_sample": "{}"}]
        for body in bodies:
            answer = _ask(shared, Case(method, _url(path, ids), body), shared.tenants[0].key)
            assert answer.status_code < 500, answer.text
        shared.web.post(
            "/v1/files",
            files={"file": (place + ".jsonl", b"{}\n")},
            data={"purpose": "fine-tune"},
            headers=shared.tenants[0].headers,
        )
    watching = False
    assert touched == []


def test_every_answer_tells_browsers_to_keep_off(shared: Shared) -> None:
    asked = [
        shared.web.get("/v1/models", headers=shared.tenants[0].headers),
        shared.web.get("/v1/models"),
        shared.web.get("/health"),
        shared.web.options(
            "/v1/models",
            headers={"origin": "http://evil.example", "access-control-request-method": "GET"},
        ),
    ]
    for answer in asked:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]


_ATTACKS = {
    "fork": "import os\n    os.fork()",
    "file": "open({path!r}).read()",
    "socket": "import socket\n    socket.create_connection(('127.0.0.1', {port}), 1)",
    "sleep": "import time\n    time.sleep(60)",
}


def _program(body: str) -> dict[str, Any]:
    source = f"def grade(sample, item):\n    {body}\n    return 1.0\n"
    return {"type": "python", "name": "p", "source": source}


def test_hostile_programs_come_to_nothing(shared: Shared, tmp_path: Path) -> None:
    if not verify().is_verified:
        pytest.skip("the sandbox of this machine does not hold; see the next test")
    secret = tmp_path / "secret"
    secret.write_text("0.5")
    port = shared.web.base_url.port
    run = "/v1/fine_tuning/alpha/graders/run"

    def mark(body: str) -> dict[str, Any]:
        asked = {"grader": _program(body), "model_sample": "x"}
        answer = shared.web.post(run, json=asked, headers=shared.tenants[0].headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert mark("return 0.75")["reward"] == 0.75
    for name, attack in _ATTACKS.items():
        found = mark(attack.format(path=str(secret), port=port))
        assert found["reward"] == 0.0, (name, found)
        assert found["metadata"]["errors"]["python_grader_runtime_error"], (name, found)
    assert mark("return 0.75")["reward"] == 0.75


def test_programs_are_refused_where_the_sandbox_does_not_hold(tmp_path: Path) -> None:
    checks: list[bool] = []

    def check() -> Verification:
        checks.append(True)
        return Verification("limits", {"network": True, "files": False})

    decoder = FakeDecoder(lambda request: "x")
    scopes: tuple[Scope, ...] = ("tune",)
    with context_of(tmp_path, decoder, programs=Programs(check)) as context:
        set_project(context.store, "acme", None, PerMinute())
        headers = {"authorization": f"Bearer {_key(context.store, 'acme', scopes=scopes)}"}
        with live(create_app(context, Access())) as url, httpx2.Client(base_url=url) as web:
            program = _program("return 1.0")
            nested = {
                "type": "multi",
                "name": "m",
                "graders": {"a": {"type": "contains", "any": ["x"]}, "b": program},
                "calculate_output": "a + b",
            }
            reinforcement = {"type": "reinforcement", "reinforcement": {"grader": nested}}
            config = {"type": "custom", "item_schema": {"type": "object"}}
            asked = {
                "/fine_tuning/alpha/graders/run": {"grader": nested, "model_sample": "x"},
                "/fine_tuning/alpha/graders/validate": {"grader": program},
                "/evals": {"data_source_config": config, "testing_criteria": [program]},
                "/fine_tuning/jobs": {
                    "model": "tiny",
                    "training_file": "file-x",
                    "method": reinforcement,
                },
            }
            for path, body in asked.items():
                answer = web.post(path, json=body, headers=headers)
                assert answer.status_code == 400, answer.text
                assert "the sandbox of this machine does not hold (files)" in answer.text
            harmless = {"grader": nested["graders"]["a"], "model_sample": "x"}  # type: ignore[index]
            answer = web.post("/fine_tuning/alpha/graders/run", json=harmless, headers=headers)
            assert answer.status_code == 200
    assert checks == [True]  # once is enough
