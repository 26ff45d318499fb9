"""How the weights may change: one file per strategy, all on one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunefork.strategies.full import Full
from tunefork.strategies.lora import Lora, LoraSettings
from tunefork.strategies.protocol import Strategy

__all__ = [
    "Full",
    "Lora",
    "LoraSettings",
    "Strategy",
    "is_adapter",
    "load_adapter",
]


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


def load_adapter(model: Any, folder: Path) -> Strategy:
    """Attach a saved adapter to a loaded base, and return its strategy."""
    return Lora.load(model, folder)
