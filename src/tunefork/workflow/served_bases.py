"""Bases in memory, each with its engine and the adapters that stand on it."""

from __future__ import annotations

import datetime
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast, get_args

import torch

from tunefork.core.errors import Busy, ModelError
from tunefork.data import Renderer
from tunefork.inference.engine import AdapterPool, Engine, EngineSettings
from tunefork.models import Base, Quantization, find_base, load_model
from tunefork.serving.catalogue import Host, ServedModel
from tunefork.workflow.opened import renderer_of

_APART = "#"  # between a base's address and how it is kept


def host_name(address: str, quantization: str | None = None) -> str:
    """Return the name of a base as it is kept in memory."""
    return address if quantization is None else f"{address}{_APART}{quantization}"


class Hosts(Protocol):
    """What the server's models stand on: bases in this process, or another engine."""

    def host(self, model: ServedModel) -> Host:
        """Return what a model stands on, its adapter made known."""
        ...

    def forget(self, model: ServedModel) -> None:
        """Let a model's adapter go."""
        ...

    def all(self) -> list[Host]:
        """Return those that are in use."""
        ...

    def close(self, drain_s: float) -> None:
        """End, after answers that are under way."""
        ...


@dataclass
class _Loaded:
    """A base in memory."""

    base: Base
    engine: Engine
    used_at: float
    renderers: dict[datetime.date, Renderer] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        stats = self.engine.stats()
        return stats.running + stats.waiting == 0


class LoadedBases:
    """Loads bases when they are asked for; the least recently used leaves for another."""

    def __init__(self, most: int, settings: EngineSettings) -> None:
        self._most = most
        self._settings = replace(settings, threads=settings.threads or torch.get_num_threads())
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()

    def host(self, model: ServedModel) -> Host:
        """Return what a model stands on, its adapter made known.

        Raises:
            ModelError: Its base or its adapter cannot be used.
            Busy: Too many other bases are in use.
        """
        with self._lock:  # also held while a base is loaded: two would not fit sooner
            found = self._loaded.get(model.base) or self._load(model.base)
            found.used_at = time.monotonic()
            pool = found.engine.pool
            if model.adapter is not None and model.adapter not in pool.keys:
                assert model.folder is not None, "an adapter lies somewhere"
                pool.register(model.adapter, model.folder)
            return self._host(model.base, found, model.date)

    def forget(self, model: ServedModel) -> None:
        """Let an adapter go."""
        with self._lock:
            found = self._loaded.get(model.base)
        if found is not None and model.adapter is not None:
            found.engine.pool.forget(model.adapter)

    def all(self) -> list[Host]:
        """Return those that are in memory, also while another one is being loaded."""
        return [self._host(name, each, None) for name, each in list(self._loaded.items())]

    def close(self, drain_s: float) -> None:
        """End all engines."""
        with self._lock:
            for each in self._loaded.values():
                each.engine.close(drain_s)
            self._loaded.clear()

    def _load(self, name: str) -> _Loaded:
        # Where more threads compute than there are processors, GNU's OpenMP lets all of them sleep
        # at once when they wait, and a step takes twice as long: only the engine has a team.
        torch.set_num_threads(1)
        self._make_room()
        address, _, kept = name.partition(_APART)
        if kept and kept not in get_args(Quantization):
            raise ModelError(f"a base cannot be kept in `{kept}`", hint="tune again")
        base = find_base(address) if not Path(address).is_dir() else Base(address, Path(address))
        model = load_model(base, quantization=cast(Quantization, kept) if kept else None)
        renderer = renderer_of(base, None)
        engine = Engine(
            model, renderer.tokenizer, renderer.end_ids, AdapterPool(model), self._settings
        )
        engine.start()
        self._loaded[name] = _Loaded(base, engine, time.monotonic())
        return self._loaded[name]

    def _make_room(self) -> None:
        while len(self._loaded) >= self._most:
            idle = [name for name, each in self._loaded.items() if each.is_idle]
            if not idle:
                raise Busy("all bases that fit are in use", retry_after_s=5)
            oldest = min(idle, key=lambda name: self._loaded[name].used_at)
            self._loaded.pop(oldest).engine.close()

    def _host(self, name: str, loaded: _Loaded, date: datetime.date | None) -> Host:
        day = date or datetime.date.today()
        renderer = loaded.renderers.get(day)
        if renderer is None:
            renderer = loaded.renderers[day] = renderer_of(loaded.base, day)
        engine = loaded.engine
        return Host(name, loaded.base.hash(), engine, renderer, engine.max_length)
