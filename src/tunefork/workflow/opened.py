"""Open a model by the name a user gives it: a base, an adapter, a tuned model or a run."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import ModelError, did_you_mean
from tunefork.core.files import home, read_json, write_json
from tunefork.data import Renderer, load_tokenizer
from tunefork.inference import ChatModel
from tunefork.models import Base, find_base, load_model
from tunefork.strategies import Strategy, is_adapter, load_adapter
from tunefork.workflow.register import registered_folder, registered_names

CARD = "tunefork.json"  # what we know of a tuned model beyond the standard files


@dataclass(frozen=True)
class OpenedModel:
    """A loaded model, its base still reachable where the strategy allows it."""

    name: str
    base: Base
    chat: ChatModel
    strategy: Strategy | None  # None for a base or a fully tuned model
    is_tuned: bool

    @contextlib.contextmanager
    def base_chat(self) -> Iterator[ChatModel]:
        """Give the base to talk to: the same weights with the adapter off, or a second load."""
        if self.strategy is not None:
            with self.strategy.disabled(self.chat.model):
                yield self.chat
        elif self.is_tuned:
            yield chat_model(self.base, self.chat.renderer)
        else:
            yield self.chat


def chat_model(base: Base, renderer: Renderer) -> ChatModel:
    """Load a base to talk to."""
    return ChatModel(load_model(base), renderer, base.max_length)


def write_card(folder: Path, base: Base, date: datetime.date | None, run: str) -> None:
    """Note beside a tuned model which base it belongs to, and how templates see the date."""
    card = {
        "base": base.address,
        "base_hash": base.hash(),
        "date": date.isoformat() if date is not None else None,
        "run": run,
    }
    write_json(folder / CARD, card)


def open_model(name: str) -> OpenedModel:
    """Load a model by name.

    Args:
        name: A run's name or folder, a registered model or alias, an adapter or model folder,
            `tiny`, or a hub id.

    Raises:
        ModelError: There is no such model, or its base is missing or another than it was.
    """
    folder = _find_folder(name)
    card = _read_card(folder) if folder is not None else {}
    if folder is None or not (is_adapter(folder) or card):
        base = _find_plain(name)
        return OpenedModel(name, base, chat_model(base, _renderer(base, None)), None, False)
    date = _card_date(folder, card)
    base = find_base(str(card.get("base") or _peft_base(folder)), relative_to=folder)
    if card and card.get("base_hash") != base.hash():
        raise ModelError(
            f"`{name}` was tuned on another version of its base `{base.name}`",
            where=folder / CARD,
            hint="bring back the base's files as they were, or tune again",
        )
    if is_adapter(folder):
        chat = chat_model(base, _renderer(base, date))
        strategy = load_adapter(chat.model, folder)
        return OpenedModel(name, base, chat, strategy, True)
    tuned = Base(name, folder)
    return OpenedModel(name, base, chat_model(tuned, _renderer(tuned, date)), None, True)


def _find_plain(name: str) -> Base:
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


def _renderer(base: Base, date: datetime.date | None) -> Renderer:
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
        if folder.is_dir():
            return folder
    # A path, a hub id or the bundled base needs no registry, and works where that is damaged.
    return registered_folder(name) if "/" not in name and name != "tiny" else None


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
