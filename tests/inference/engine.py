"""A small engine, its adapters, and what it is asked, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.small import VOCABULARY, packed_model, save_tokenizer
from tests.strategies.cases import disturb
from tunefork.data.tokenizer import Tokenizer, load_tokenizer
from tunefork.inference import (
    AdapterPool,
    Engine,
    EngineSettings,
    Piece,
    Request,
    Sampling,
    Ticket,
)
from tunefork.models import Base
from tunefork.strategies import Bottleneck, Lora, LoraSettings, Prefix, PrefixSettings

_TEXT = "".join(chr(code) for code in range(33, 127)) + " \n"  # more than the model's vocabulary
END = 2


def tokenizer(folder: Path) -> Tokenizer:
    """Return a tokenizer of single characters, as many as a small model has."""
    save_tokenizer(folder, _TEXT[-93:])
    return load_tokenizer(folder)


@contextlib.contextmanager
def running(
    folder: Path, model: Any = None, settings: EngineSettings | None = None, **pool: Any
) -> Iterator[Engine]:
    """Run an engine on a small model, with a pool that knows no adapter yet."""
    model = packed_model("llama") if model is None else model
    engine = Engine(
        model, tokenizer(folder), {END}, AdapterPool(model, **pool), settings or EngineSettings()
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def strategies() -> dict[str, Any]:
    """Return new adapters of each kind, and of several ranks."""
    return {
        "lora2": Lora(LoraSettings(rank=2, alpha=8)),
        "lora5": Lora(LoraSettings(rank=5, alpha=3, targets=("q_proj", "down_proj"))),
        "dora": Lora(LoraSettings(rank=3, alpha=6, dora=True)),
        "prefix": Prefix(PrefixSettings(tokens=3)),
        "bottleneck": Bottleneck(),
    }


def save_adapters(folder: Path, architecture: str = "llama") -> dict[str, Path]:
    """Save adapters that have an effect, and return their folders."""
    found = {}
    for seed, (name, strategy) in enumerate(strategies().items()):
        model = packed_model(architecture)
        strategy.attach(model, seed)
        disturb(strategy, model, seed)
        found[name] = folder / name
        found[name].mkdir(parents=True)
        strategy.save(model, found[name], Base(architecture, folder))
    return found


def ask(prompt: Sequence[int], adapter: str | None = None, owner: str = "", **how: Any) -> Request:
    """Return a request, greedy and of ten tokens where nothing else is said."""
    sampling = Sampling(**{"max_tokens": 10, "temperature": 0.0, **how})
    return Request(tuple(prompt), sampling, adapter, owner)


def read(ticket: Ticket) -> list[Piece]:
    """Return the whole answer."""
    return list(ticket)


def text_of(ticket: Ticket) -> str:
    """Return the text of the whole answer."""
    return "".join(piece.text for piece in ticket)


def ids_of(ticket: Ticket) -> list[int]:
    """Return the tokens of an answer that was asked for with probabilities, its end left out."""
    return [token.id for piece in ticket for token in piece.tokens if token.id != END]


def prompts(lengths: Sequence[int] = (5, 1, 12, 7, 40, 20, 3)) -> list[list[int]]:
    """Return random prompts, the same each time."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
