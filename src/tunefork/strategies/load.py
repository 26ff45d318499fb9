"""Which strategy a saved adapter is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tunefork.core.errors import ModelError, did_you_mean
from tunefork.strategies.bottleneck import Bottleneck
from tunefork.strategies.effect import check_effect
from tunefork.strategies.folder import CONFIG_FILE, read_config
from tunefork.strategies.lora import Lora
from tunefork.strategies.prefix import Prefix
from tunefork.strategies.protocol import Adapter

# By the method that `adapter_config.json` names; BOTTLENECK is ours, and PEFT has none.
_METHODS: dict[str, type[Adapter]] = {
    "LORA": Lora,
    "PREFIX_TUNING": Prefix,
    "BOTTLENECK": Bottleneck,
}


def load_adapter(
    model: Any, folder: Path, number: int = 1, plain: torch.Tensor | None = None
) -> Adapter:
    """Put a saved adapter on a loaded base, and return its strategy.

    Args:
        model: What `load_model` returned, with or without other adapters.
        folder: Where the adapter lies, in PEFT's format.
        number: What segments are to name it by.
        plain: What `probe` returns of the base alone, where it is known.

    Raises:
        ModelError: It is damaged, of a method that we do not know, made for another base, or has
            no effect. The model is as it was.
    """
    method = read_config(folder)["peft_type"]
    if method not in _METHODS:
        raise ModelError(
            f"this adapter's method is {method}, which is not supported",
            where=folder / CONFIG_FILE,
            hint=did_you_mean(method, list(_METHODS))
            or f"use one of {', '.join(_METHODS)}, or merge it into its base with its own tool",
        )
    adapter = _METHODS[method].load(model, folder, number)
    try:
        check_effect(model, adapter, folder, plain)
    except ModelError:
        adapter.take(model)
        raise
    return adapter
