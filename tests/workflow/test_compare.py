"""The ladder on `tiny`: each rung is a model, answers survive a kill, bad input costs a rung."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest

from tests.cli.command import call
from tests.projects import small_probe, write_lines, write_project
from tests.retrieval.papers import write_pdf
from tunefork.core.errors import ModelError, RemoteError, UsageError
from tunefork.core.events import Event, Noted, Warned, no_sink
from tunefork.inference import ChatModel
from tunefork.registry import find_model, last_evaluation, list_models, open_registry, promote
from tunefork.workflow import compare_answers
from tunefork.workflow import run as run_module
from tunefork.workflow.compare import compare_project
from tunefork.workflow.compare_ladder import Wanted, wanted
from tunefork.workflow.compare_reference import Reference, reference_at
from tunefork.workflow.evaluate import evaluate
from tunefork.workflow.spec import Project, load_project

_BASE_RUNGS = wanted("base,prompt,retrieval,prompt+retrieval")
_TOWNS = ("Ash", "Birch", "Cedar", "Elm", "Fir", "Holly", "Ivy", "Larch")


def _project(folder: Path, **spec: Any) -> Project:
    """Write a project about towns, with a document."""
    (folder / "docs").mkdir(parents=True)
    text = "".join(f"# {town}\n\nThe baker of {town} is called {town}son.\n\n" for town in _TOWNS)
    (folder / "docs" / "towns.md").write_text(text, encoding="utf-8")
    documents = spec.pop("documents", "docs")
    path = write_project(
        folder,
        "tiny",
        goal="Answers in one word",
        data={"train": "train.jsonl", "documents": documents},
        prices={"per_hour": 3600.0},
        training={"epochs": 1},
        strategy="lora",
        **spec,
    )
    rows = [
        {"user": f"Who bakes in {town}?", "assistant": f"{town}son."}
        for town in (*_TOWNS, "Oak", "Pine", "Rowan", "Yew")
    ]
    write_lines(folder / "train.jsonl", rows)
    questions = [
        {"question": f"The baker of {town} is who?", "reference": f"{town}son", "group": town}
        for town in _TOWNS[:4]
    ]
    write_lines(folder / "golden.jsonl", questions)
    return load_project(path)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time as few questions as it may be."""
    monkeypatch.setattr(compare_answers, "_LATENCY_SECONDS", 0.0)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Return home, project and result of a ladder with all rungs of a project of its own."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", str(folder / "home"))
        patch.setattr(run_module, "general_probe", small_probe)
        patch.setattr(compare_answers, "_LATENCY_SECONDS", 0.0)
        result = compare_project(_project(folder / "towns"), Wanted(), sink=no_sink)
    return folder / "home", folder / "towns", result


def test_the_result_has_what_is_promised(compared: tuple[Path, Path, dict[str, Any]]) -> None:
    _, _, result = compared
    assert result["questions"] == 4
    assert list(result["rungs"]) == list(Wanted().rungs)
    assert result["skipped"] == {}
    for name, rung in result["rungs"].items():
        assert rung["low"] <= rung["score"] <= rung["high"]
        assert (rung["over_base"] is None) == (name == "base")
        cost = rung["cost"]
        assert cost["money"] == pytest.approx(1000 * cost["seconds"])
        assert 0 < cost["latency_p50"] <= cost["latency_p95"]
        assert cost["timed"] >= 3
        assert rung["bundle"]
    tokens = {name: rung["cost"]["tokens_in"] for name, rung in result["rungs"].items()}
    assert tokens["retrieval"] > tokens["base"] == tokens["tuned"]
    # Four facts can tell nothing apart.
    assert result["recommendation"]["rung"] is None
    assert result["recommendation"]["reason"].startswith("Too few questions")
    json.loads(json.dumps(result, allow_nan=False))


def test_tuned_weights_with_passages_are_judged_whole(
    compared: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, result = compared
    monkeypatch.setenv("TUNEFORK_HOME", str(home))
    with open_registry() as registry, registry.writing() as session:
        found = last_evaluation(session, result["rungs"]["tuned+retrieval"]["bundle"])
        assert found is not None
        reasons = found.result["reasons"]
    for what in ("over the base", "held-out rows", "general questions", "harmful"):
        assert any(what in reason for reason in reasons), what


def test_every_rung_is_a_model_that_answers_alike_by_name(
    compared: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, project, result = compared
    monkeypatch.setenv("TUNEFORK_HOME", str(home))
    for name in ("prompt", "retrieval", "prompt+retrieval", "tuned", "tuned+retrieval"):
        rung = result["rungs"][name]
        found = evaluate(rung["bundle"], project / "golden.jsonl", no_sink)
        assert found["score"] == rung["score"], name
    with open_registry() as registry, registry.writing() as session:
        model = find_model(session, result["rungs"]["retrieval"]["bundle"])
        assert model.index_hash is not None
        # What was measured does not make it better than the base.
        with pytest.raises(ModelError, match="not to be promoted"):
            promote(session, model, "live", None)
        verdicts = {each["name"]: each["verdict"] for each in list_models(session)}
    assert verdicts[result["rungs"]["tuned"]["bundle"]] == result["verdict"]


def test_what_is_measured_already_is_not_asked_again(
    compared: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, project, result = compared
    monkeypatch.setenv("TUNEFORK_HOME", str(home))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(ChatModel, "answer", refuse)
    again = compare_project(load_project(project), _BASE_RUNGS, sink=no_sink)
    assert again["run"] is None
    for name in _BASE_RUNGS.rungs:
        assert again["rungs"][name]["score"] == result["rungs"][name]["score"]
        assert again["rungs"][name]["cost"] == result["rungs"][name]["cost"]


class _Killed(BaseException):
    """As sudden as SIGKILL: nothing of ours catches it."""


def test_killed_anywhere_it_goes_on_to_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _project(tmp_path / "towns")
    chosen = wanted("base,prompt,retrieval")
    answer = ChatModel.answer

    def climb(limit: float = math.inf) -> tuple[dict[str, Any] | None, int]:
        """Return what is found, or None where it was killed, and how often a model was asked."""
        calls = 0

        def counted(self: ChatModel, *given: Any, **named: Any) -> Any:
            nonlocal calls
            if calls >= limit:
                raise _Killed
            calls += 1
            return answer(self, *given, **named)

        monkeypatch.setattr(ChatModel, "answer", counted)
        try:
            return compare_project(project, chosen, sink=no_sink), calls
        except _Killed:
            return None, calls

    whole, n_whole = climb()
    assert whole is not None
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "another"))
    lost = [climb(limit) for limit in (2, n_whole // 2)]
    assert [result for result, _ in lost] == [None, None]
    found, n_left = climb()
    assert found is not None
    # At most the questions that time one answer alone are asked anew, those of one rung a kill.
    n_kept = sum(calls for _, calls in lost)
    assert n_whole - n_kept <= n_left <= n_whole - n_kept + 2 * 20
    assert n_left < n_whole
    for name in chosen.rungs:
        assert found["rungs"][name]["score"] == whole["rungs"][name]["score"]
        assert found["rungs"][name]["settings"] == whole["rungs"][name]["settings"]


@pytest.mark.parametrize("kind", ["empty", "scanned", "missing"])
def test_documents_that_cannot_be_searched_cost_their_rungs_alone(
    tmp_path: Path, kind: str
) -> None:
    project = _project(tmp_path / "towns", documents="papers")
    if kind != "missing":
        (tmp_path / "towns" / "papers").mkdir()
    if kind == "scanned":
        write_pdf(tmp_path / "towns" / "papers" / "scan.pdf", ["", ""])
    seen: list[Event] = []
    result = compare_project(project, wanted("base,retrieval"), sink=seen.append)
    assert list(result["rungs"]) == ["base"]
    said = " ".join(event.message for event in seen if isinstance(event, Warned))
    expected = {
        "empty": "no document in this folder can be read",
        "scanned": "run text recognition (OCR) over it first",
        "missing": "there is no such folder of documents",
    }[kind]
    assert expected in said
    assert "no document can be searched" in result["skipped"]["retrieval"]
    # How many questions it takes is said before any is asked.
    noted = [event.message for event in seen if isinstance(event, Noted)]
    assert any("4 questions about 4 facts: a gain of 5.0 points" in text for text in noted)


class _Server(BaseHTTPRequestHandler):
    """Answers as the test says: with a text, or a status, or too late."""

    replies: ClassVar[list[Any]] = []
    seen: ClassVar[list[dict[str, Any]]] = []
    is_over: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "big"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(json.loads(body))
        reply = self.replies.pop(0) if self.replies else "Ashson."
        if reply == "slow":
            self.is_over.wait(20)
        elif isinstance(reply, int):
            self._send(reply, {"error": {"message": "busy"}})
        elif isinstance(reply, dict):
            self._send(200, reply)
        else:
            choice = {"message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 3}
            self._send(200, {"choices": [choice], "usage": usage})

    def _send(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Reference]:
    _Server.replies, _Server.seen, _Server.is_over = [], [], threading.Event()
    found = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield reference_at(f"http://127.0.0.1:{found.server_port}", None)
    _Server.is_over.set()
    found.shutdown()
    thread.join()
    found.server_close()


def test_a_reference_is_asked_and_sent_nothing_but_questions_and_goal(
    tmp_path: Path, server: Reference
) -> None:
    _Server.replies = [503, "Ashson.", "Birchson."]  # busy at first, and asked again
    chosen = wanted("base", reference=replace(server, model="big"))
    result = compare_project(_project(tmp_path / "towns"), chosen, sink=no_sink)
    rung = result["rungs"]["reference"]
    assert rung["score"] == 0.5
    assert rung["settings"] == "big"
    assert rung["cost"]["tokens_in"] == 9
    assert rung["bundle"] is None
    assert rung["cost"]["money"] is None  # the machine's price is not the server's
    assert [turn["content"] for turn in _Server.seen[0]["messages"]] == [
        "Answers in one word",
        "The baker of Ash is who?",
    ]
    assert "Oakson" not in json.dumps(_Server.seen)


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        (["slow"], "does not answer: timed out"),
        ([503], "says 503: busy"),
        ([401], "asks for a key"),
        ([{"choices": []}], "answered with no chat completion"),
    ],
)
def test_a_reference_that_fails_costs_its_rung_alone(
    tmp_path: Path,
    server: Reference,
    replies: list[Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunefork.workflow.service._TIMEOUT", httpx2.Timeout(0.2))
    monkeypatch.setattr("tunefork.workflow.compare_reference._PATIENCE_S", 0.0)
    _Server.replies = replies
    chosen = wanted("base", reference=server)
    seen: list[Event] = []
    result = compare_project(_project(tmp_path / "towns"), chosen, sink=seen.append)
    assert list(result["rungs"]) == ["base"]
    assert said in result["skipped"]["reference"]
    assert any(said in event.message for event in seen if isinstance(event, Warned))


@pytest.mark.parametrize("model", [None, "big"])
def test_a_reference_that_is_down_is_told_at_once(model: str | None) -> None:
    down = reference_at("http://127.0.0.1:1", model)
    with pytest.raises(RemoteError, match="does not answer"), down.open(no_sink) as found:
        found.ask([[]], 8)


def test_a_key_for_a_reference_does_not_travel_in_the_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with pytest.raises(UsageError, match="in the clear"):
        reference_at("http://10.0.0.7:8000/v1", None)
    here = reference_at("http://127.0.0.1:8000", None)
    assert (here.address.url, here.address.key) == ("http://127.0.0.1:8000/v1", "secret")


def test_what_cannot_be_asked_for_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no rung `promt`") as caught:
        wanted("base,promt")
    assert caught.value.hint == "did you mean `prompt`?"
    with pytest.raises(UsageError, match="needs `--larger`"):
        wanted("larger")
    with pytest.raises(UsageError, match="no address of a server"):
        reference_at("localhost:8000", None)
    assert wanted("tuned+retrieval").rungs == ("base", "tuned", "tuned+retrieval")
    folder = _project(tmp_path / "towns").folder
    write_lines(folder / "golden.jsonl", [{"question": "Who?", "grader": "contians"}])
    called = call("compare", folder, "--json")
    assert called.code == 1
    assert called.json["error"]["where"] == {"file": str(folder / "golden.jsonl"), "line": 1}
    spec = folder / "tunefork.yaml"
    spec.write_text(spec.read_text().replace("golden: golden.jsonl\n", ""))
    called = call("compare", folder, "--json")
    assert (called.code, called.json["error"]["message"]) == (
        1,
        "there are no golden questions to compare by",
    )
