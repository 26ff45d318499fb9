"""Open a model by the name a user gives it: a base, an adapter, a tuned model or a run."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from tunefork.core.errors import ModelError, did_you_mean
from tunefork.core.files import home, read_json, write_json
from tunefork.data import Renderer, load_tokenizer
from tunefork.inference import ChatModel, Decoding
from tunefork.models import Base, Quantization, find_base, load_model
from tunefork.strategies import Strategy, is_adapter, load_adapter
from tunefork.workflow.heads import with_head
from tunefork.workflow.look_up import LookUp, looking_up, open_look_up
from tunefork.workflow.registered import (
    Prompt,
    Registered,
    newest_run,
    registered_model,
    registered_names,
)

CARD = "tunefork.json"  # what we know of a tuned model beyond the standard files
DECODING = Decoding(max_new_tokens=256)  # greedy, so that a measurement can be repeated


@dataclass(frozen=True)
class OpenedModel:
    """A loaded model, its base still reachable where the strategy allows it."""

    name: str
    base: Base
    chat: ChatModel
    strategy: Strategy | None  # None where no adapter is on the base
    is_tuned: bool  # its weights are not its base's
    decoding: Decoding = DECODING

    @property
    def is_base(self) -> bool:
        """Whether it is a base, and nothing on it."""
        return not (self.is_tuned or self.chat.before or self.chat.look_up)

    @contextlib.contextmanager
    def base_chat(self) -> Iterator[ChatModel]:
        """Give the base to talk to: the same weights with the adapter off, or a second load."""
        if self.strategy is not None:
            with self.strategy.disabled(self.chat.model):
                yield _alone(self.chat)
        elif self.is_tuned:
            yield chat_model(self.base, self.chat.renderer)
        else:
            yield replace(self.chat, before=(), look_up=None)

    def behind(self, prompt: Prompt, look_up: LookUp | None = None) -> OpenedModel:
        """Return it with a prompt before each conversation, and what is looked up for it."""
        chat = looking_up(replace(self.chat, before=prompt.messages), look_up)
        return replace(self, chat=chat, decoding=prompt.decoding or self.decoding)


def chat_model(
    base: Base, renderer: Renderer, quantization: Quantization | None = None
) -> ChatModel:
    """Load a base to talk to."""
    return ChatModel(load_model(base, quantization=quantization), renderer, base.max_length)


def _alone(chat: ChatModel) -> ChatModel:
    """Return the model with no head, and nothing before its conversations."""
    return ChatModel(chat.model, chat.renderer, chat.max_length)


def write_card(
    folder: Path,
    base: Base,
    date: datetime.date | None,
    run: str,
    quantization: Quantization | None = None,
    head: Mapping[str, Any] | None = None,
) -> None:
    """Note beside a tuned model which base it belongs to, and how to load it.

    Args:
        folder: The tuned model's.
        base: What it was made of.
        date: What templates take for today.
        run: The run's name.
        quantization: How the base was kept while the adapter was trained.
        head: What the model's head is for, where it has one: see `workflow.heads`.
    """
    card: dict[str, Any] = {
        "base": base.address,
        "base_hash": base.hash(),
        "date": date.isoformat() if date is not None else None,
        "run": run,
        "quantization": quantization,
    }
    write_json(folder / CARD, card | ({"head": dict(head)} if head is not None else {}))


def open_model(name: str) -> OpenedModel:
    """Load a model by name.

    Args:
        name: A run's name or folder, a registered model or alias, an adapter or model folder,
            `tiny`, or a hub id.

    Raises:
        ModelError: There is no such model, or its base is missing or another than it was.
    """
    folder = _find_folder(name)
    # A path, a hub id or the bundled base needs no registry, and works where that is damaged.
    if folder is None and "/" not in name and name != "tiny":
        registered = registered_model(name)
        if registered is not None:
            return _open_registered(name, registered)
    if folder is None or not _is_tuned(folder):
        return _open_base(name, _find_plain(name))
    return _open_tuned(name, folder)


def _open_registered(name: str, registered: Registered) -> OpenedModel:
    if registered.folder is not None:
        opened = _open_tuned(name, registered.folder)
    else:
        base = find_base(registered.base)
        if base.hash() != registered.base_hash:
            raise _another_base(name, base, base.folder)
        opened = _open_base(name, base)
    look_up = registered.look_up
    return opened.behind(registered.prompt, open_look_up(look_up) if look_up else None)


def _open_base(name: str, base: Base) -> OpenedModel:
    return OpenedModel(name, base, chat_model(base, renderer_of(base, None)), None, False)


def _open_tuned(name: str, folder: Path) -> OpenedModel:
    card = _read_card(folder)
    date = _card_date(folder, card)
    base = find_base(str(card.get("base") or _peft_base(folder)), relative_to=folder)
    if card and card.get("base_hash") != base.hash():
        raise _another_base(name, base, folder / CARD)
    if is_adapter(folder):
        chat = chat_model(base, renderer_of(base, date), _card_quantization(folder, card))
        strategy = load_adapter(chat.model, folder)
        return OpenedModel(name, base, with_head(chat, folder, card), strategy, True)
    tuned = Base(name, folder)
    chat = chat_model(tuned, renderer_of(tuned, date))
    return OpenedModel(name, base, with_head(chat, folder, card), None, True)


def _another_base(name: str, base: Base, where: Path) -> ModelError:
    return ModelError(
        f"`{name}` was made of another version of its base `{base.name}`",
        where=where,
        hint="bring back the base's files as they were, or make it again",
    )


def _find_plain(name: str) -> Base:
    if _is_project(Path(name)):
        run = newest_run(Path(name))
        raise ModelError(
            f"`{name}` is a project, not a model",
            where=name,
            hint=f"its newest run is `{run}`" if run else f"make one: tunefork run {name}",
        )
    known = [*_run_names(), *registered_names()]
    is_word = not {"/", "."} & set(name) and not Path(name).exists()
    if is_word and name != "tiny":
        hint = did_you_mean(name, ["tiny", *known])
        raise ModelError(
            f"there is no model and no run called `{name}`",
            hint=hint or "name a run, a model or adapter folder, `tiny`, or a hub id",
        )
    return find_base(name)


def _run_names() -> list[str]:
    runs = home() / "runs"
    return sorted(path.name for path in runs.iterdir()) if runs.is_dir() else []


def renderer_of(base: Base, date: datetime.date | None) -> Renderer:
    """Return what renders conversations for a base; a template sees the date as today."""
    return Renderer(load_tokenizer(base.folder), date)


def _find_folder(name: str) -> Path | None:
    """Return the folder with the tuned model, or None where `name` must be a base."""
    given = Path(os.path.expanduser(name))  # leaves an unknown `~name` as it is
    for folder in (given, home() / "runs" / name):
        if (folder / "model").is_dir() and (folder / "record.json").is_file():
            return folder / "model"
        if (folder / "record.json").is_file():
            raise ModelError(
                f"the run `{name}` is not finished", where=folder, hint="go on with `--resume`"
            )
        if folder.is_dir() and (_is_tuned(folder) or (folder / "config.json").is_file()):
            return folder
    return None


def _is_tuned(folder: Path) -> bool:
    return is_adapter(folder) or (folder / CARD).is_file()


def _is_project(folder: Path) -> bool:
    return (folder / "tunefork.yaml").is_file() and not (folder / "config.json").is_file()


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    return read_json(path) if path.is_file() else {}


def _card_date(folder: Path, card: dict[str, Any]) -> datetime.date | None:
    if card.get("date") is None:
        return None
    try:
        return datetime.date.fromisoformat(card["date"])
    except (TypeError, ValueError) as error:
        where = folder / CARD
        raise ModelError(f"damaged: {error}", where=where, hint="tune again") from error


def _card_quantization(folder: Path, card: dict[str, Any]) -> Quantization | None:
    name = card.get("quantization")
    if name is not None and name not in get_args(Quantization):
        raise ModelError(
            f"damaged: its base was kept in `{name}`, which is not known",
            where=folder / CARD,
            hint=f"known is {', '.join(get_args(Quantization))}; tune again",
        )
    return cast(Quantization | None, name)


def _peft_base(folder: Path) -> str:
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        hint = "bring the file back as it was saved"
        raise ModelError(f"not valid JSON: {error}", where=path, hint=hint) from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str):
        raise ModelError(
            "the adapter does not name its base",
            where=path,
            hint="write the base's folder or hub id into it as `base_model_name_or_path`",
        )
    return base
