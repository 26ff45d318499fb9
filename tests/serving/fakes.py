"""A stand-in for the engine and the workflow, and a live server for clients that know no better."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from tunefork.core.errors import Busy, ModelError, TuneforkError
from tunefork.data import Message, Renderer, load_tokenizer
from tunefork.inference.engine import (
    Alternative,
    EngineStats,
    Piece,
    Request,
    Ticket,
    TokenLogProb,
    Usage,
)
from tunefork.models import find_base
from tunefork.serving.app import create_app
from tunefork.serving.callers import LOCAL
from tunefork.serving.catalogue import Catalogue, Host, ServedModel
from tunefork.serving.context import Context
from tunefork.serving.eval_runs import EvalParts, EvalRuns
from tunefork.serving.graded import Programs
from tunefork.serving.guard import Access
from tunefork.serving.keeper import Keeper, Workers
from tunefork.serving.keyring import Keyring
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Meters
from tunefork.serving.store import open_store
from tunefork.serving.tuned import JobModels

_LIMITS = Limits()
_IDLE = EngineStats(0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0, True)
_PATIENCE_S = 20.0
# What every stand-in for a worker begins with. `--check` is answered as one would wish.
BEGIN = """
import json, os, signal, sys, time
from pathlib import Path
from tunefork.serving.job_folder import JobFolder
folder = JobFolder(Path(sys.argv[1]))
if "--check" in sys.argv:
    folder.write_end("validated")
    raise SystemExit
def succeed():
    (folder.run / "model").mkdir(parents=True, exist_ok=True)
    lines = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.5}]
    lines.append({"step": 2, "validation_loss": 1.25})
    (folder.run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\\n" for each in lines))
    for step in (1, 2):
        (folder.snapshots / f"step-{step:06d}").mkdir(parents=True, exist_ok=True)
    result = {"verdict": "hold", "reasons": ["no better"], "trained_tokens": 7, "steps": 2}
    folder.write_end("succeeded", result={**result, "hyperparameters": {"n_epochs": 2}})
"""
SUCCEED = BEGIN + "folder.add_event('Step 1/2: training loss=2.50', data={'step': 1})\nsucceed()"
FAIL = BEGIN + (
    "folder.write_end('failed', error={'code': 'data', 'message': 'row 3 is empty', "
    "'param': 'training_file'})"
)
# Sleeps until it is told to stop; goes on where it was, and succeeds when `go` is there.
WAIT = (
    BEGIN
    + """
def stop(*_):
    folder.write_end("paused")
    os._exit(143)
signal.signal(signal.SIGTERM, stop)
(folder.path / f"began-{os.getpid()}").touch()
while not (folder.path / "go").exists():
    time.sleep(0.01)
succeed()
"""
)


def _token(character: str) -> TokenLogProb:
    raw = character.encode()
    return TokenLogProb(
        7,
        character,
        raw,
        -0.5,
        (Alternative(7, character, raw, -0.5), Alternative(8, "z", b"z", -9.0)),
    )


class FakeTicket:
    """Says its text letter by letter."""

    def __init__(self, text: str, request: Request, error: TuneforkError | None = None) -> None:
        self._text, self._request, self._error = text, request, error
        self.is_cancelled = False
        self.forever = text == "forever"
        self.usage = Usage(len(request.prompt), 0, 0)

    def __iter__(self) -> Iterator[Piece]:
        yield from self._pieces()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        for piece in self._pieces():
            yield piece
            await asyncio.sleep(0.001 if self.forever else 0)

    def _pieces(self) -> Iterator[Piece]:
        if self._error is not None:
            raise self._error
        most = self._request.sampling.max_tokens
        letters = (self._text * 10**6 if self.forever else self._text)[:most]
        wants = self._request.sampling.n_logprobs is not None
        for letter in letters:
            if self.is_cancelled:
                return
            self.usage = Usage(len(self._request.prompt), 0, self.usage.completion_tokens + 1)
            yield Piece(letter, (_token(letter),) if wants else (), None)
        yield Piece("", (), "stop" if len(self._text) <= most else "length")

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class FakeDecoder:
    """Answers each prompt with what `answer` says."""

    answer: Callable[[Request], str | TuneforkError]
    requests: list[Request] = field(default_factory=list)
    tickets: list[FakeTicket] = field(default_factory=list)
    is_busy: bool = False
    counted: EngineStats = field(default_factory=lambda: _IDLE)

    def submit(self, request: Request) -> Ticket:
        if self.is_busy:
            raise Busy("too many requests are waiting", retry_after_s=3.0)
        self.requests.append(request)
        said = self.answer(request)
        failure = said if isinstance(said, TuneforkError) else None
        self.tickets.append(FakeTicket("" if failure else str(said), request, failure))
        return self.tickets[-1]  # type: ignore[return-value]

    def stats(self) -> EngineStats:
        return self.counted


class FakeBackend:
    """Two models on `tiny`, of which `broken` cannot be loaded."""

    def __init__(self, decoder: FakeDecoder) -> None:
        self.decoder = decoder
        base = find_base("tiny")
        renderer = Renderer(load_tokenizer(base.folder))
        self._host = Host("tiny", base.hash(), decoder, renderer, base.max_length)
        self.in_memory = [self._host]
        self.bases = {"tiny": "tiny", "gpt-4o-mini": "tiny"}
        self.forgotten: list[str] = []
        pirate = Message("system", "Be a pirate.")
        self._models = {
            name: ServedModel(name, 1, "tunefork", "tiny")
            for name in ("tiny", "gpt-4o-mini", "org/name:v1", "broken")
        }
        self._models["vectors"] = ServedModel("vectors", 1, "tunefork", "tiny", can_embed=True)
        self._models["pirate"] = ServedModel(
            "pirate",
            2,
            "local",
            "tiny",
            before=lambda messages: [pirate, *messages],
            defaults={"temperature": 0.0, "max_tokens": 5},
            verdict="unproven",
        )

    def models(self, owner: str) -> list[ServedModel]:
        names = [name for name in self._models if self._is_for(owner, name)]
        return [self._models[name] for name in names]

    def find(self, owner: str, name: str) -> ServedModel | None:
        return self._models.get(name) if self._is_for(owner, name) else None

    def _is_for(self, owner: str, name: str) -> bool:
        return owner == LOCAL or name != "pirate"  # which the local user registered

    def tuned(self, name: str, folder: Path, created: int, verdict: Any) -> ServedModel:
        return ServedModel(name, created, "local", "tiny", name, folder, verdict=verdict)

    def host(self, model: ServedModel) -> Host:
        if model.id == "broken":
            raise ModelError("the adapter is damaged", where="/secret/place")
        return self._host

    def forget(self, model: ServedModel) -> None:
        self.forgotten.append(model.id)

    def embed(self, model: ServedModel, texts: Sequence[str]) -> tuple[Any, int]:
        return [[float(len(text)), 1.0] for text in texts], sum(map(len, texts))

    def loaded(self) -> Sequence[Host]:
        return self.in_memory


@dataclass
class Clock:
    """The time, and how much later a test has it be."""

    later_s: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later_s

    def wall(self) -> float:
        return time.time() + self.later_s


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, or fail."""
    end = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


@contextlib.contextmanager
def live(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of this machine; give its base URL."""
    listening = socket.socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    # The socket is bound, and a connection waits until the server accepts it.
    listening.listen(64)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


@contextlib.contextmanager
def context_of(
    folder: Path,
    decoder: FakeDecoder,
    worker: str = "",
    devices: tuple[str, ...] = ("cpu",),
    limits: Limits = _LIMITS,
    clock: Clock | None = None,
    programs: Programs | None = None,
) -> Iterator[Context]:
    """Give the parts of a server whose workers run `worker`, a program of a few lines."""
    backend = FakeBackend(decoder)
    workers = Workers((sys.executable, "-c", worker or "raise SystemExit"), devices)
    with open_store(folder) as store:
        keeper = Keeper(store, workers)
        keeper.start()
        try:
            catalogue = Catalogue(backend, JobModels(store, backend))
            clock = clock or Clock()
            keyring, meters = Keyring(store, clock.monotonic, clock.wall), Meters(clock.monotonic)
            programs = programs or Programs()
            evals = EvalRuns(EvalParts(store, catalogue, limits, keyring, meters, programs))
            yield Context(catalogue, limits, store, keeper, evals, keyring, meters, programs)
            evals.close()
        finally:
            keeper.close()


@contextlib.contextmanager
def serving(folder: Path, decoder: FakeDecoder, worker: str = "") -> Iterator[str]:
    """Serve with a stand-in for the engine; give the base URL."""
    with context_of(folder, decoder, worker) as context, live(create_app(context, Access())) as url:
        yield url
