"""The models that a server answers for, by name: bases, what the registry knows, and their aliases.

Names come from requests: they are looked up among names that are known, and never opened as paths.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tunefork.core.errors import ModelError, TuneforkError
from tunefork.core.files import read_json
from tunefork.inference import ChatModel, Decoding, TextEmbedder, join, load_embedder
from tunefork.models import find_base
from tunefork.registry import (
    current_aliases,
    find_model,
    has_registry,
    model_names,
    open_registry,
    verdict_of,
)
from tunefork.serving.callers import LOCAL
from tunefork.serving.catalogue import Host, ServedModel, Verdict
from tunefork.strategies import is_adapter
from tunefork.workflow.look_up import looking_up, open_look_up
from tunefork.workflow.opened import CARD, renderer_of
from tunefork.workflow.registered import Registered, registered_model
from tunefork.workflow.served_bases import Hosts, host_name

_FRESH_S = 1.0  # how long what the registry said is taken to be so


@dataclass(frozen=True)
class Names:
    """What a server was told to serve.

    Attributes:
        bases: What each name of a base stands for here; jobs may tune these.
        embedders: Models that make embeddings, by name.
        jobs: The folder of jobs; models in it have names and owners of their own.
        shared: Registered models and aliases that every project may ask.
    """

    bases: Mapping[str, str]
    embedders: Mapping[str, str]
    jobs: Path
    shared: frozenset[str] = frozenset()


class ServedModels:
    """Finds models by name, and loads what they stand on."""

    def __init__(self, names: Names, loaded: Hosts) -> None:
        self.bases = dict(names.bases)
        self._names = names
        self._loaded = loaded
        self._began = int(time.time())
        self._known = _Fresh()
        self._embedders: dict[str, TextEmbedder] = {}
        self._embedding = threading.Lock()

    def models(self, owner: str) -> list[ServedModel]:
        """Return every model that an owner may ask, but those that jobs here made."""
        named = [*self.bases, *self._names.embedders]
        own = [model for name in named if (model := self._own(name)) is not None]
        return [*own, *self._registered_models(owner)]

    def find(self, owner: str, name: str) -> ServedModel | None:
        """Return a model by its name or alias; of another's, nothing is even looked up."""
        return self._own(name) or (self._registered(name) if self._is_for(owner, name) else None)

    def tuned(self, name: str, folder: Path, created: int, verdict: Verdict) -> ServedModel:
        """Return the model that a job left in a folder."""
        card = read_json(folder / CARD)
        model = ServedModel(name, created, "local", "", folder=folder, verdict=verdict)
        return _on_base(model, folder, card)

    def host(self, model: ServedModel) -> Host:
        """Return what a model stands on, loaded if need be."""
        return self._loaded.host(model)

    def forget(self, model: ServedModel) -> None:
        """Let a model's adapter go."""
        self._loaded.forget(model)

    def loaded(self) -> Sequence[Host]:
        """Return the bases that are in memory."""
        return self._loaded.all()

    def embed(
        self, model: ServedModel, texts: Sequence[str]
    ) -> tuple[Sequence[Sequence[float]], int]:
        """Return a vector for each text, and how many tokens were read."""
        with self._embedding:
            embedder = self._embedders.get(model.id)
            if embedder is None:
                base = find_base(self._names.embedders[model.id])
                embedder = self._embedders[model.id] = load_embedder(base)
            vectors = embedder.embed(texts).tolist()
        longest = embedder.max_length
        counts = [len(embedder.tokenizer(text)["input_ids"]) for text in texts]
        return vectors, sum(min(count, longest) for count in counts)

    def _own(self, name: str) -> ServedModel | None:
        if name in self.bases:
            return ServedModel(name, self._began, "tunefork", host_name(self.bases[name]))
        if name in self._names.embedders:
            address = host_name(self._names.embedders[name])
            return ServedModel(name, self._began, "tunefork", address, can_embed=True)
        return None

    def _is_for(self, owner: str, name: str) -> bool:
        return owner == LOCAL or name in self._names.shared

    def _registered_models(self, owner: str) -> list[ServedModel]:
        if not has_registry():
            return []
        with open_registry() as registry, registry.reading() as session:
            names = [name for name in model_names(session) if self._is_for(owner, name)]
        found = []
        for name in names:
            try:
                model = self._registered(name)
            except TuneforkError:  # its files are gone: asking for it says so
                continue
            if model is not None:
                found.append(model)
        return found

    def _registered(self, name: str) -> ServedModel | None:
        known = self._known.get(name)
        if known is None:
            known = _look_up(name, self._names.jobs)
            self._known.put(name, known)
        return known.model


@dataclass(frozen=True)
class _Known:
    """What the registry said of a name; there may be no such model."""

    model: ServedModel | None
    at_s: float = field(default_factory=time.monotonic)


class _Fresh:
    """What was looked up a moment ago."""

    def __init__(self) -> None:
        self._found: dict[str, _Known] = {}

    def get(self, name: str) -> _Known | None:
        """Return what is known of a name, unless it may have changed."""
        known = self._found.get(name)
        return known if known and time.monotonic() - known.at_s < _FRESH_S else None

    def put(self, name: str, known: _Known) -> None:
        """Note it. Names that nobody has are not kept: there is no end of them."""
        if known.model is not None:
            self._found[name] = known


def _look_up(name: str, jobs: Path) -> _Known:
    registered = registered_model(name)
    if registered is None:
        return _Known(None)
    with open_registry() as registry, registry.reading() as session:
        model = find_model(session, name)
        verdict = verdict_of(session, model.name)
        is_alias = name in current_aliases(session)
        created = int(datetime.datetime.fromisoformat(model.created).timestamp())
    is_of_job = registered.folder is not None and registered.folder.is_relative_to(jobs)
    if is_of_job and not is_alias:
        return _Known(None)
    details = {"stands_for": registered.name} if is_alias else {}
    known = ServedModel(
        name,
        created,
        "local",
        host_name(registered.base),
        folder=registered.folder,
        before=_before(registered),
        defaults=_defaults(registered.prompt.decoding),
        verdict=_verdict(verdict),
        details=details,
    )
    if registered.folder is not None:
        card_file = registered.folder / CARD
        card = read_json(card_file) if card_file.is_file() else {"base": registered.base}
        if card.get("head") is not None:
            return _Known(None)  # it tells labels or rewards, not text
        known = _on_base(known, registered.folder, card)
    elif find_base(registered.base).hash() != registered.base_hash:
        raise ModelError(
            f"`{name}` was made of another version of its base",
            hint="bring back the base's files as they were",
        )
    return _Known(known)


def _on_base(model: ServedModel, folder: Path, card: Mapping[str, Any]) -> ServedModel:
    """Return a model with what its folder says it stands on; a whole model stands on itself."""
    day = card.get("date")
    date = datetime.date.fromisoformat(day) if day else None
    if not is_adapter(folder):
        return replace(model, base=host_name(str(folder)), adapter=None, date=date)
    address = str(card["base"])
    if card.get("base_hash") not in (None, find_base(address).hash()):
        raise ModelError(
            f"`{model.id}` was made of another version of its base",
            where=folder / CARD,
            hint="bring back the base's files as they were, or make it again",
        )
    base = host_name(address, card.get("quantization"))
    return replace(model, base=base, adapter=str(folder), date=date)


def _verdict(given: str | None) -> Verdict:
    known: dict[str | None, Verdict] = {"ship": "ship", "hold": "hold", "undecided": "undecided"}
    return known.get(given, "unproven")


def _defaults(decoding: Decoding | None) -> dict[str, float]:
    if decoding is None:
        return {}
    return {
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "max_tokens": decoding.max_new_tokens,
    }


def _before(registered: Registered) -> Any:
    """Return what puts a bundle's prompt, examples and passages before a conversation."""
    messages = registered.prompt.messages
    if registered.look_up is None:
        return partial(join, messages) if messages else None
    base = find_base(registered.base)
    chat = ChatModel(None, renderer_of(base, None), base.max_length, messages)
    return looking_up(chat, open_look_up(registered.look_up)).behind
