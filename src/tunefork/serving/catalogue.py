"""What models there are, and what answers for each: the seam to the workflow, which knows.

`Backend` is what serving is given: it finds models by name, and loads the base that a model stands
on. The names of tuned models come from the jobs; `Catalogue` puts both together.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tunefork.data import Message, Renderer
from tunefork.inference.engine import EngineStats, Request, Ticket

Verdict = Literal["ship", "hold", "undecided", "unproven"]
Vectors = Sequence[Sequence[float]]


@dataclass(frozen=True)
class ServedModel:
    """A model that can be asked by name.

    Attributes:
        id: The name.
        created: Unix time.
        owned_by: Who made it.
        base: The name of what it stands on; see `Backend.host`.
        adapter: Its adapter's key; None where its weights are the base's.
        folder: Where the adapter lies.
        date: What its template takes for today; None for the day that it is.
        before: Puts what the model brings along before a conversation: a system prompt, examples,
            passages of documents.
        defaults: Sampling settings of its own, where a request names none.
        verdict: What the gate said of it; None of what was not tuned.
        details: What else is known, shown as extra fields.
    """

    id: str
    created: int
    owned_by: str
    base: str
    adapter: str | None = None
    folder: Path | None = None
    date: datetime.date | None = None
    before: Callable[[Sequence[Message]], Sequence[Message]] | None = None
    defaults: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    can_embed: bool = False

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a conversation as the base is to see it."""
        return self.before(messages) if self.before is not None else messages


class Decoder(Protocol):
    """What answers: the engine, or a stand-in."""

    def submit(self, request: Request) -> Ticket:
        """Take a request on."""
        ...

    def stats(self) -> EngineStats:
        """Return how it does."""
        ...


@dataclass(frozen=True)
class Host:
    """A base in memory."""

    name: str
    fingerprint: str  # of the base's files
    decoder: Decoder
    renderer: Renderer
    max_length: int | None  # tokens, prompt and answer together


class Backend(Protocol):
    """What the server needs of the rest of the house."""

    @property
    def bases(self) -> Mapping[str, str]:
        """What each name of a base that jobs may tune stands for here."""
        ...

    def models(self, owner: str) -> list[ServedModel]:
        """Return every model that an owner may ask, but those that jobs here made.

        What the local user registered is the local user's, but for what is shared.
        """
        ...

    def find(self, owner: str, name: str) -> ServedModel | None:
        """Return one of them by its name or alias."""
        ...

    def tuned(self, name: str, folder: Path, created: int, verdict: Verdict) -> ServedModel:
        """Return the model that a job left in a folder.

        Raises:
            ModelError: The folder is damaged.
        """
        ...

    def host(self, model: ServedModel) -> Host:
        """Return what the model stands on, loaded if need be, its adapter made known.

        Raises:
            TuneforkError: It cannot be loaded.
        """
        ...

    def forget(self, model: ServedModel) -> None:
        """Let a model's adapter go."""
        ...

    def embed(self, model: ServedModel, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Return a vector for each text, and how many tokens were read."""
        ...

    def loaded(self) -> Sequence[Host]:
        """Return the bases that are in memory."""
        ...


class TunedModels(Protocol):
    """The models that jobs made, by name."""

    def tuned_models(self, owner: str) -> list[ServedModel]:
        """Return all of an owner."""
        ...

    def find_tuned(self, owner: str, name: str) -> ServedModel | None:
        """Return one by its name, checkpoints included."""
        ...

    def delete_tuned(self, owner: str, name: str) -> bool:
        """Remove one; say whether it was one of these."""
        ...


@dataclass(frozen=True)
class Catalogue:
    """Every model that an owner may ask."""

    backend: Backend
    tuned: TunedModels

    def all(self, owner: str) -> list[ServedModel]:
        """Return those that are listed."""
        return [*self.backend.models(owner), *self.tuned.tuned_models(owner)]

    def find(self, owner: str, name: str) -> ServedModel | None:
        """Return one by name."""
        if name.startswith("ft:"):
            return self.tuned.find_tuned(owner, name)
        return self.backend.find(owner, name)
