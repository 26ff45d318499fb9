"""Models as the registry knows them, ready to be opened; and a prompt, or more, as a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from tunefork.core.errors import ModelError
from tunefork.core.files import cache_folder, new_folder
from tunefork.data import Message
from tunefork.inference import Decoding
from tunefork.models import Base
from tunefork.registry import (
    BaseModel,
    Bundle,
    Model,
    Registry,
    add_base,
    add_folder,
    add_model,
    files_below,
    files_of,
    find_model,
    free_model_name,
    has_registry,
    look_at,
    model_names,
    newest_run_of,
    open_registry,
    write_folder,
)
from tunefork.workflow.register import look_at_base


@dataclass(frozen=True)
class Prompt:
    """What makes another model of a base without any training.

    Attributes:
        system: The system prompt.
        examples: Conversations to follow, each of whole turns.
        decoding: How answers are drawn; None where the caller decides.
    """

    system: str | None = None
    examples: tuple[tuple[Message, ...], ...] = ()
    decoding: Decoding | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """All of it as turns, in the order in which they stand before a conversation."""
        system = (Message("system", self.system),) if self.system is not None else ()
        return (*system, *(turn for example in self.examples for turn in example))


@dataclass(frozen=True)
class Registered:
    """A registered model: a base at one revision, and what is put on it."""

    name: str
    base: str  # what finds it
    base_hash: str
    folder: Path | None  # its weights; None where it has none of its own
    prompt: Prompt
    look_up: Path | None = None  # what it looks things up in, see `look_up`


def register_prompt(
    name: str,
    base: Base,
    prompt: Prompt,
    *,
    look_up: Path | None = None,
    tuned: Path | None = None,
) -> str:
    """Write a prompt down as a model, and return its name.

    The name gets a number where it stands for something else already; the same prompt written
    twice is one model.

    Args:
        name: What to call it.
        base: What answers.
        prompt: What stands before each conversation.
        look_up: The folder with what is looked up for each question, see `look_up`.
        tuned: The folder of a registered run whose weights are put on the base.

    Raises:
        RunError: The registry cannot be written.
        ModelError: The run is not in it.
    """
    seen = look_at_base(base)
    looked_up = look_at(files_below(look_up), keep=True) if look_up is not None else None
    with open_registry() as registry, registry.writing() as session:
        add_base(session, registry.objects, seen)
        bundle = Bundle(
            base.hash(),
            weights_hash=find_model(session, str(tuned)).weights_hash if tuned else None,
            system_prompt=prompt.system,
            examples=[[_stored(turn) for turn in example] for example in prompt.examples] or None,
            index_hash=add_folder(session, registry.objects, looked_up) if looked_up else None,
            decoding=_stored_decoding(prompt.decoding) if prompt.decoding else None,
        )
        name = free_model_name(session, name, bundle.hash)
        add_model(session, name, bundle)
    return name


def registered_model(name: str) -> Registered | None:
    """Return a registered model by its name or alias; None where there is none.

    Where the run's folder is gone, the kept copies are unpacked.

    Raises:
        ModelError: Its files are gone, or it needs what cannot be opened here.
    """
    if not has_registry():
        return None
    with open_registry() as registry, registry.reading() as session:
        if name not in model_names(session):
            return None
        model = find_model(session, name)
        base = session.get_one(BaseModel, model.base_hash)
        return Registered(
            model.name,
            base.address,
            base.hash,
            _unpacked(session, registry, model.name, model.weights_hash),
            _prompt(model),
            _unpacked(session, registry, model.name, model.index_hash),
        )


def registered_names() -> list[str]:
    """Return the names and aliases of all registered models."""
    if not has_registry():
        return []
    with open_registry() as registry, registry.reading() as session:
        return model_names(session)


def newest_run(project: Path) -> str | None:
    """Return the newest registered run of the project in a folder."""
    if not has_registry():
        return None
    with open_registry() as registry, registry.reading() as session:
        return newest_run_of(session, project)


def _unpacked(
    session: Session, registry: Registry, name: str, folder_hash: str | None
) -> Path | None:
    """Return where the files of a folder lie, or where their kept copies lie now."""
    if folder_hash is None:
        return None
    files = files_of(session, folder_hash)
    places = [Path(file.path) for file, _ in files]
    if all(place.is_file() for place in places):
        return places[0].parents[files[0][0].name.count("/")]
    if not all(blob.is_kept for _, blob in files):
        raise ModelError(
            f"the files of `{name}` are gone, and were too large to keep a copy of",
            where=places[0].parent,
            hint="bring the folder back, or replay its run",
        )
    target = cache_folder() / "models" / folder_hash.removeprefix("sha256:")
    if not target.is_dir():
        with new_folder(target) as folder:
            write_folder(session, registry.objects, folder_hash, folder)
    return target


def _stored(turn: Message) -> dict[str, str]:
    assert not turn.tool_calls, "examples that call tools are not kept"
    return {"role": turn.role, "content": turn.content}


def _stored_decoding(decoding: Decoding) -> dict[str, Any]:
    """Leave out how many are decoded together, which decides no answer."""
    return {key: value for key, value in asdict(decoding).items() if key != "slots"}


def _prompt(model: Model) -> Prompt:
    examples: list[list[dict[str, Any]]] = model.examples or []
    return Prompt(
        model.system_prompt,
        tuple(tuple(Message(**turn) for turn in example) for example in examples),
        Decoding(**model.decoding) if model.decoding else None,
    )
