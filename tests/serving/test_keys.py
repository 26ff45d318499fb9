"""Keys: made and changed by the command, obeyed by a server that runs, counted exactly."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from sqlalchemy import select

from tests.cli.command import call
from tests.serving.fakes import BEGIN, Clock, FakeDecoder, context_of, live, until
from tunefork.core.errors import DataError, UsageError
from tunefork.serving.app import create_app
from tunefork.serving.callers import LOCAL
from tunefork.serving.context import Context
from tunefork.serving.guard import Access, check_address
from tunefork.serving.keys import NewKey, PerMinute, create_key, list_keys, set_project
from tunefork.serving.store import open_store, store_folder
from tunefork.serving.tables import RESULTS, EvalRunRow, FileRow, JobRow

_TURNS: Any = [{"role": "user", "content": "Hello?"}]
_CHAT: dict[str, Any] = {"model": "tiny", "messages": _TURNS, "max_tokens": 9}


@dataclass(frozen=True)
class Served:
    """A server in the home folder, where the command looks for it."""

    url: str
    context: Context
    clock: Clock
    decoder: FakeDecoder

    def client(self, key: str, **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, **settings)

    def later(self, seconds: float = 1.0) -> None:
        self.clock.later_s += seconds


@pytest.fixture
def served() -> Iterator[Served]:
    decoder, clock = FakeDecoder(lambda request: "Hi there."), Clock()
    with (
        context_of(store_folder(), decoder, clock=clock) as context,
        live(create_app(context, Access())) as url,
    ):
        yield Served(url, context, clock, decoder)


def _may(served: Served, key: str) -> bool:
    try:
        with served.client(key) as client:
            client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def test_a_key_from_its_making_to_its_end(served: Served) -> None:
    assert _may(served, "none")  # this machine alone asks, and nobody made a key
    made = call("keys", "create", "--name", "mine", "--json").json
    served.later()
    assert not _may(served, "none")
    assert _may(served, made["key"])
    rotated = call("keys", "rotate", made["id"], "--json").json
    assert rotated["id"] == made["id"]
    served.later()
    assert not _may(served, made["key"])
    assert _may(served, rotated["key"])
    again = call("keys", "rotate", made["id"], "--grace", "1h", "--json").json
    served.later()
    assert _may(served, rotated["key"])
    assert _may(served, again["key"])
    served.later(3600)
    assert not _may(served, rotated["key"])
    assert _may(served, again["key"])
    assert call("keys", "revoke", made["id"]).out == f"revoked {made['id']}\n"
    served.later()
    assert not _may(served, again["key"])
    assert not _may(served, "none")  # it does not open by itself
    (listed,) = call("keys", "list", "--json").json["keys"]
    assert (listed["status"], listed["name"], listed["project"]) == ("revoked", "mine", LOCAL)
    assert call("keys", "rotate", made["id"]).code == 1
    assert call("keys", "forget").code == 2
    assert call("keys", "forget", "--yes").code == 0
    served.later()
    assert _may(served, "none")


def test_a_stream_of_events_ends_with_its_key() -> None:
    worker = BEGIN + "time.sleep(60)"
    decoder, clock = FakeDecoder(lambda request: "Hi there."), Clock()
    with (
        context_of(store_folder(), decoder, worker, clock=clock) as context,
        live(create_app(context, Access())) as url,
    ):
        made = call("keys", "create", "--json").json
        with openai.OpenAI(base_url=url, api_key=made["key"], max_retries=0) as client:
            file = client.files.create(file=("x.jsonl", b"{}\n"), purpose="fine-tune")
            job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
        events = f"{url}/fine_tuning/jobs/{job.id}/events?stream=true"
        headers = {"authorization": f"Bearer {made['key']}"}
        with httpx2.Client() as web, web.stream("GET", events, headers=headers) as stream:
            lines = (line for line in stream.iter_lines() if line)
            assert "Created" in next(lines)
            call("keys", "revoke", made["id"])
            clock.later_s += 1
            assert "invalid_api_key" in list(lines)[-1]
        context.keeper.ask(job.id, "cancel")
        until(lambda: _job(context, job.id).state == "cancelled")


def test_jobs_of_several_projects_take_turns() -> None:
    """Not in the order in which they came: who has brought many lets others in between."""
    wait = (
        "(folder.path / 'cache').write_text(os.environ['TUNEFORK_CACHE'])\n"
        "while not (folder.path.parent / 'go').exists(): time.sleep(0.01)\n"
    )
    decoder = FakeDecoder(lambda request: "Hi there.")
    with (
        context_of(store_folder(), decoder, BEGIN + wait + "succeed()") as context,
        live(create_app(context, Access())) as url,
    ):
        for project in ("many", "one"):
            set_project(context.store, project, None, PerMinute())
        made: dict[str, str] = {}
        for number, project in enumerate(("many", "many", "one")):
            key = create_key(context.store, NewKey(project))["key"]
            with openai.OpenAI(base_url=url, api_key=key) as client:
                file = client.files.create(file=("x.jsonl", b"{}\n"), purpose="fine-tune").id
                made[client.fine_tuning.jobs.create(model="tiny", training_file=file).id] = (
                    f"{project} {number}"
                )
            until(lambda: _job(context, list(made)[-1]).state in ("queued", "running"))
        (context.store.jobs / "go").touch()
        until(lambda: all(_job(context, name).state == "succeeded" for name in made))
        with context.store.reading() as session:
            results = session.scalars(
                select(FileRow.id).where(FileRow.purpose == RESULTS).order_by(FileRow.number)
            )
            by_file = {_job(context, name).result_file: what for name, what in made.items()}
            assert [by_file[each] for each in results] == ["many 0", "one 2", "many 1"]
        caches = [(context.store.jobs / name / "cache").read_text() for name in made]
        assert caches[0] == caches[1] != caches[2]  # what one has prepared, another does not find


def _job(context: Context, name: str) -> JobRow:
    with context.store.reading() as session:
        return session.scalars(select(JobRow).where(JobRow.id == name)).one()


def test_an_expired_key_opens_nothing(served: Served) -> None:
    key = call("keys", "create", "--expires", "2m", "--json").json["key"]
    assert _may(served, key)
    served.later(120)
    with served.client(key) as client, pytest.raises(openai.AuthenticationError, match="expired"):
        client.models.list()


def test_a_secret_is_nowhere_to_be_read(served: Served) -> None:
    made = call("keys", "create", "--json").json
    secret = made["key"].split("-", 3)[3]
    assert len(secret) == 43
    for path in store_folder().rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
    shown = call("keys", "list", "--json").out + call("keys", "list").out
    assert secret not in shown
    assert made["id"] in shown
    changed = made["key"][:-1] + ("A" if made["key"][-1] != "A" else "B")
    assert not _may(served, changed)
    with served.client(changed) as client, pytest.raises(openai.AuthenticationError) as wrong:
        client.models.list()
    nobodys = "sk-tf-" + "x" * 24 + "-" + secret
    with served.client(nobodys) as client, pytest.raises(openai.AuthenticationError) as unknown:
        client.models.list()
    assert str(wrong.value) == str(unknown.value)
    assert secret not in str(wrong.value)


def test_organisations_and_projects(served: Served) -> None:
    call("keys", "project", "bots", "--organisation", "acme")
    call("keys", "project", "sites", "--organisation", "acme")
    found = {each["name"]: each for each in call("keys", "projects", "--json").json["projects"]}
    assert found["bots"]["organisation_id"] == found["sites"]["organisation_id"]
    key = call("keys", "create", "--project", "bots", "--json").json["key"]
    organisation, project = found["bots"]["organisation_id"], found["bots"]["id"]
    for right in (organisation, "acme"):
        with served.client(key, organization=right, project=project) as client:
            client.chat.completions.create(**_CHAT)
    assert served.decoder.requests[-1].owner == project  # so is what the engine keeps of prompts
    wrong = {"organization": "org-other"}, {"project": found["sites"]["id"]}, {"project": "proj_x"}
    for names in wrong:
        with served.client(key, **names) as client, pytest.raises(openai.AuthenticationError) as no:
            client.models.list()
        assert no.value.code == f"mismatched_{next(iter(names))}"


def test_what_cannot_be_is_said_in_one_message() -> None:
    call("keys", "project", "bots")
    said = {
        ("create", "--project", "bot"): "did you mean `bots`?",
        ("create", "--scope", "write"): "there are read, infer, tune, admin",
        ("create", "--expires", "soon"): "write it as 30s, 10m, 12h or 90d",
        ("project", "A:B"): "take up to 40 small letters",
        ("project", "bots", "--organisation", "other"): "the project `bots` belongs to `bots`",
        ("revoke", "key_x"): "`tunefork keys list` shows what there is",
    }
    for arguments, message in said.items():
        called = call("keys", *arguments)
        assert called.code in (1, 2), arguments
        assert message in called.err.replace("\n", " ")
        assert "Traceback" not in called.err


def test_a_key_does_what_its_scopes_say(served: Served) -> None:
    keys = {
        scope: call("keys", "create", "--scope", scope, "--json").json["key"]
        for scope in ("read", "infer", "tune", "admin")
    }
    file = ("rows.jsonl", b'{"prompt": "a", "completion": "b"}\n')
    asked: dict[str, Any] = {
        "list": lambda client: client.files.list(),
        "models": lambda client: client.models.list(),
        "chat": lambda client: client.chat.completions.create(**_CHAT),
        "upload": lambda client: client.files.create(file=file, purpose="fine-tune"),
    }
    may = set()
    for scope, key in keys.items():
        with served.client(key) as client:
            for name, ask in asked.items():
                with contextlib.suppress(openai.PermissionDeniedError):
                    ask(client)
                    may.add((scope, name))
    right = {("read", "list"), ("read", "models"), ("infer", "models"), ("infer", "chat")}
    assert may == {*right, ("tune", "upload")}


def _at_once(served: Served, key: str, count: int, body: dict[str, Any]) -> list[httpx2.Response]:
    """Ask `count` times, each by a connection of its own, all at the same time."""

    async def all_of_them() -> list[httpx2.Response]:
        headers, limits = {"authorization": f"Bearer {key}"}, httpx2.Limits(max_connections=count)
        async with httpx2.AsyncClient(timeout=30, headers=headers, limits=limits) as web:
            url = f"{served.url}/chat/completions"
            asked = [web.post(url, json=body) for _ in range(count)]
            return list(await asyncio.gather(*asked))

    return asyncio.run(all_of_them())


def test_requests_per_minute_hold_for_a_hundred_clients(served: Served) -> None:
    call("keys", "project", "bots", "--requests", 30)
    keys = [call("keys", "create", "--project", "bots", "--json").json["key"] for _ in range(2)]
    answers = _at_once(served, keys[0], 100, _CHAT)
    assert Counter(each.status_code for each in answers) == {200: 30, 429: 70}
    refused = next(each for each in answers if each.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-limit-requests"] == "30"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    with served.client(keys[1]) as client:  # the project's other key
        with pytest.raises(openai.RateLimitError):
            client.models.list()
        call("keys", "project", "bots", "--requests", 31)
        served.later()
        raw = client.models.with_raw_response.list()  # a higher limit holds at once
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        served.later(61)
        raw = client.models.with_raw_response.list()
        assert raw.headers["x-ratelimit-remaining-requests"] == "30"


def test_tokens_per_minute_hold_for_a_hundred_clients(served: Served) -> None:
    limit = 1000
    key = call("keys", "create", "--tokens", limit, "--json").json["key"]
    with served.client(key) as client:
        used = client.chat.completions.create(**_CHAT).usage
    assert used is not None
    cost = used.total_tokens
    served.later(61)
    answers = _at_once(served, key, 100, {**_CHAT, "max_tokens": 50})
    done = [each.json()["usage"]["total_tokens"] for each in answers if each.status_code == 200]
    assert {each.status_code for each in answers} == {200, 429}
    assert set(done) == {cost}
    assert limit // (cost + 41) <= len(done) <= limit // cost  # 41 are reserved, and not needed
    with served.client(key) as client:  # what was not needed can be asked for
        left = limit - sum(done)
        for _ in range(left // cost):
            client.chat.completions.create(**_CHAT)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**_CHAT)
        served.later(61)
        stream = client.chat.completions.create(**_CHAT, stream=True)
        assert "".join(each.choices[0].delta.content or "" for each in stream) == "Hi there."
        raw = client.models.with_raw_response.list()
        assert raw.headers["x-ratelimit-remaining-tokens"] == str(limit - cost)
        with pytest.raises(openai.RateLimitError, match="too large"):
            client.chat.completions.create(**{**_CHAT, "max_tokens": limit})


def test_what_is_reserved_comes_back_however_an_answer_ends(served: Served) -> None:
    limit = 1000
    key = call("keys", "create", "--tokens", limit, "--json").json["key"]
    long = {**_CHAT, "max_tokens": 900}
    with served.client(key) as client:

        def left() -> int:
            raw = client.models.with_raw_response.list()
            return int(raw.headers["x-ratelimit-remaining-tokens"])

        served.decoder.answer = lambda request: "forever"
        with client.chat.completions.create(**long, stream=True) as stream:
            next(iter(stream))
            assert left() < 100
        until(lambda: left() > 100)  # the client hung up
        served.later(61)
        served.decoder.answer = lambda request: DataError("no")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**long)
        assert left() > 900  # the prompt was read
        served.later(61)
        served.decoder.is_busy = True
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**long)
        assert left() == limit


def test_embeddings_count_too(served: Served) -> None:
    key = call("keys", "create", "--tokens", 30, "--json").json["key"]
    with served.client(key) as client:
        client.embeddings.create(model="vectors", input="a" * 20)
        with pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="vectors", input="a" * 20)
        client.embeddings.create(model="vectors", input="a" * 8)


def test_an_eval_waits_for_its_tokens(served: Served) -> None:
    key = call("keys", "create", "--tokens", 100, "--json").json["key"]
    rows = [{"item": {"q": "Hello?"}} for _ in range(2)]
    with served.client(key) as client:
        made = client.evals.create(
            name="x",
            data_source_config={"type": "custom", "item_schema": {"type": "object"}},
            testing_criteria=[
                {
                    "type": "string_check",
                    "name": "right",
                    "input": "{{sample.output_text}}",
                    "operation": "eq",
                    "reference": "Hi there.",
                }
            ],
        )
        source: Any = {
            "type": "completions",
            "model": "tiny",
            "source": {"type": "file_content", "content": rows},
            "sampling_params": {"max_completion_tokens": 80},
            "input_messages": {
                "type": "template",
                "template": [{"type": "message", "role": "user", "content": "{{item.q}}"}],
            },
        }
        run = client.evals.runs.create(made.id, data_source=source)

        def items() -> list[Any]:
            return list(client.evals.runs.output_items.list(run.id, eval_id=made.id))

        until(lambda: len(items()) == 1)
        assert client.evals.runs.retrieve(run.id, eval_id=made.id).status == "in_progress"
        served.later(61)
        until(lambda: len(items()) == 2)
        assert [each.status for each in items()] == ["pass", "pass"]


def test_other_machines_are_answered_with_a_key_alone() -> None:
    with pytest.raises(UsageError, match="can be reached from other machines"):
        check_address("0.0.0.0", Access(), has_keys=False)
    check_address("0.0.0.0", Access(), has_keys=True)
    check_address("0.0.0.0", Access("static"), has_keys=False)
    called = call("serve", "--host", "0.0.0.0", "--port", 0)
    assert called.code == 2
    assert "tunefork keys create" in called.err


def test_who_is_reached_by_others_never_opens(tmp_path: Path) -> None:
    decoder = FakeDecoder(lambda request: "Hi there.")
    with (
        context_of(tmp_path, decoder) as context,
        live(create_app(context, Access(is_for_others=True))) as url,
        httpx2.Client() as web,
    ):
        assert web.get(f"{url}/models").status_code == 401
        assert web.get(f"{url}/models", headers={"host": "localhost"}).status_code == 401


def test_state_from_before_there_were_keys_is_brought_up_to_date(tmp_path: Path) -> None:
    with open_store(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "serving.db") as old:
        for table in ("keys", "projects", "organisations"):
            old.execute(f"DROP TABLE {table}")
        old.execute("ALTER TABLE eval_runs DROP COLUMN key_id")
        old.execute("UPDATE schema SET version = 1")
        old.execute(
            "INSERT INTO eval_runs (id, eval_id, owner, created, state, content) "
            "VALUES ('evalrun_a', 'eval_a', 'local', 1, 'completed', '{}')"
        )
    old.close()
    for _ in range(2):
        with open_store(tmp_path) as store:
            with store.reading() as session:
                run = session.query(EvalRunRow).one()
                assert (run.id, run.owner, run.key_id) == ("evalrun_a", LOCAL, None)
            assert set_project(store, LOCAL, None, PerMinute(requests=5))["requests"] == 5
            create_key(store, NewKey())
    with open_store(tmp_path) as store:
        assert {each["project"] for each in list_keys(store)} == {LOCAL}
