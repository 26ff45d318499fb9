"""`serve`: wire the server's parts together: bases, models, files, jobs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tunefork.core.allocator import quick_allocator
from tunefork.core.errors import RemoteError, UsageError
from tunefork.core.events import Noted, Sink, Warned
from tunefork.core.files import home
from tunefork.core.loopback import is_loopback
from tunefork.graders.sandbox import WALLS_ONLY
from tunefork.inference.engine import EngineSettings
from tunefork.models import find_base
from tunefork.serving.app import create_app
from tunefork.serving.callers import LOCAL
from tunefork.serving.catalogue import Catalogue
from tunefork.serving.context import Context
from tunefork.serving.eval_runs import EvalParts, EvalRuns
from tunefork.serving.graded import Programs
from tunefork.serving.guard import Access, check_address
from tunefork.serving.keeper import Keeper, Workers
from tunefork.serving.keyring import Keyring
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Meters
from tunefork.serving.store import open_store, store_folder
from tunefork.serving.tuned import JobModels
from tunefork.workflow.served_bases import Hosts, LoadedBases
from tunefork.workflow.served_models import Names, ServedModels
from tunefork.workflow.service import Address

if TYPE_CHECKING:
    from fastapi import FastAPI

_DRAIN_S = 5.0  # for answers that are under way when the server stops


@dataclass(frozen=True)
class OtherEngine:
    """A vLLM that draws the answers, and how many adapters it may hold at once."""

    address: Address
    adapters: int


@dataclass(frozen=True)
class ServeSettings:
    """What to serve, and how much at once.

    Attributes:
        bases: Bases that are loaded at the start, and that jobs may tune.
        names: More names for them: what OpenAI's bases stand for here.
        embedders: Models that make embeddings.
        jobs: How many jobs run at once; at most one on each GPU.
        most_bases: How many bases may be in memory, those of `full` models among them.
        rows: Answers that are computed together.
        engine: What answers in the place of this process.
        key_variable: The environment variable with a key of the local user.
        shared: Registered models and aliases that every project may ask.
        host: The address to listen at.
        limits: What one request may take.
        logs_content: Whether the log tells what requests and answers say.
    """

    bases: tuple[str, ...] = ("tiny",)
    names: Mapping[str, str] = field(default_factory=dict)
    embedders: tuple[str, ...] = ()
    jobs: int = 1
    most_bases: int = 4
    rows: int = 32
    engine: OtherEngine | None = None
    key_variable: str | None = None
    shared: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    limits: Limits = field(default_factory=Limits)
    logs_content: bool = False

    @property
    def access(self) -> Access:
        """Who may ask.

        Raises:
            UsageError: The variable that should hold the key is empty.
        """
        is_for_others = not is_loopback(self.host)
        if self.key_variable is None:
            return Access(is_for_others=is_for_others)
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UsageError(
                f"the environment variable `{self.key_variable}` holds no key",
                hint="set it to a long random text",
            )
        return Access(key, is_for_others)


@contextlib.contextmanager
def serving(settings: ServeSettings, sink: Sink) -> Iterator[FastAPI]:
    """Give the application with all of its parts running; they end with it, but for jobs.

    Raises:
        UsageError: The settings do not fit together, or others could ask without a key.
        ModelError: A base cannot be used.
        RunError: Another server uses the home folder.
    """
    folder, access = store_folder(), settings.access
    bases = _bases(settings)
    embedders = {name: find_base(name).address for name in settings.embedders}
    loaded = _hosts(settings, bases)
    names = Names(bases, embedders, folder / "jobs", frozenset(settings.shared))
    backend = ServedModels(names, loaded)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_store(folder))
        keyring, meters, programs = Keyring(store), Meters(), Programs()
        check_address(settings.host, access, has_keys=keyring.are_there_keys())
        stack.callback(loaded.close, _DRAIN_S)
        for name in settings.bases:
            model = backend.find(LOCAL, name)
            assert model is not None, "it was named"
            sink(Noted(f"Loading `{name}`"))
            try:
                backend.host(model)
            except RemoteError as error:  # it may yet come
                sink(Warned(f"{error.message}: `{name}` is not served until it does"))
        keeper = Keeper(store, _workers(settings))
        keeper.start()
        stack.callback(keeper.close)
        catalogue = Catalogue(backend, JobModels(store, backend))
        evals = EvalRuns(EvalParts(store, catalogue, settings.limits, keyring, meters, programs))
        evals.resume()
        stack.callback(evals.close)
        context = Context(
            catalogue, settings.limits, store, keeper, evals, keyring, meters, programs
        )
        yield create_app(context, access, logs_content=settings.logs_content)


def _hosts(settings: ServeSettings, bases: Mapping[str, str]) -> Hosts:
    if settings.engine is not None:
        from tunefork.workflow.vllm import VllmHosts

        return VllmHosts(settings.engine.address, bases, settings.engine.adapters)
    most = max(settings.most_bases, len(settings.bases))
    return LoadedBases(most, EngineSettings(rows=settings.rows))


def _bases(settings: ServeSettings) -> dict[str, str]:
    found = {name: find_base(name).address for name in settings.bases}
    for name, base in settings.names.items():
        if base not in found:
            raise UsageError(
                f"`{name}` is to stand for `{base}`, which is no base that is served",
                hint=f"add `--base {base}`",
            )
        if name in found or name.startswith("ft:"):
            raise UsageError(f"`{name}` is taken already", hint="choose another name")
        found[name] = found[base]
    return found


def _workers(settings: ServeSettings) -> Workers:
    import torch

    n_gpus = torch.cuda.device_count()
    names = [str(n) for n in range(n_gpus)] or [f"cpu-{n}" for n in range(settings.jobs)]
    environment = {
        "TUNEFORK_HOME": str(Path(home()).resolve()),
        WALLS_ONLY: "1",  # what graders run is whose the job is
        **quick_allocator(),
    }
    if settings.key_variable is not None:
        environment[settings.key_variable] = ""  # no job needs it
    return Workers(
        # `-P`: files of the folder that the server was started in are no modules.
        command=(sys.executable, "-P", "-m", "tunefork.workflow.job"),
        devices=tuple(names[: settings.jobs]),
        environment=environment,
    )
