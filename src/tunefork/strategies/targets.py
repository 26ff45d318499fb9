"""Which linear layers of a base a strategy changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from transformers.pytorch_utils import Conv1D

from tunefork.core.errors import ModelError
from tunefork.models.quantized import QuantizedLinear
from tunefork.strategies.folder import unusable
from tunefork.strategies.parts import AdapterPart, base_name

_V = TypeVar("_V")


def sizes(layer: Any) -> tuple[int, int]:
    """Return a linear layer's (in, out)."""
    if isinstance(layer, Conv1D):  # GPT-2 keeps its weights transposed
        n_in, n_out = layer.weight.shape
        return int(n_in), int(n_out)
    return int(layer.in_features), int(layer.out_features)


def linear_layers(model: Any) -> dict[str, str]:
    """Return where the base's linear layers stand, by the base's own names for them.

    Where adapters stand around parts of the base, the two differ. The output head is included.
    """
    owned = {
        id(inner)
        for module in model.modules()
        if isinstance(module, AdapterPart)
        for inner in module.modules()
    }
    return {
        base_name(path): path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D | QuantizedLinear) and id(module) not in owned
    }


def find_targets(model: Any, targets: tuple[str, ...] | None) -> dict[str, str]:
    """Return the layers to change, as `linear_layers` does: all but the head, or those named.

    Args:
        model: A loaded base, with or without adapters.
        targets: Last parts of module names such as `q_proj`, or None for all.

    Raises:
        ModelError: The base has no such layer.
    """
    head = model.get_output_embeddings()
    head = getattr(head, "base_layer", head)  # it may have been changed itself
    layers = {
        name: path
        for name, path in linear_layers(model).items()
        if model.get_submodule(path) is not head
    }
    if targets is None:
        return layers
    missing = [target for target in targets if not any(_ends(name, target) for name in layers)]
    if missing:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise ModelError(
            f"the base has no linear layer called {', '.join(f'`{name}`' for name in missing)}",
            hint=f"its linear layers are {', '.join(known)}",
        )
    return {
        name: path
        for name, path in layers.items()
        if any(_ends(name, target) for target in targets)
    }


def check_targets(targets: object, layers: Iterable[str], where: Path) -> None:
    """Check that an adapter's config names every layer that its tensors change, as PEFT reads it.

    Args:
        targets: `target_modules`: ends of module names, or one regular expression over them.
        layers: The whole names of the layers that there are tensors for.
        where: The config, for the message.

    Raises:
        ModelError: It does not name one, whose tensors PEFT would drop without a word.
    """
    if targets in (None, "all-linear"):
        return
    for name in layers:
        if isinstance(targets, list):
            is_named = any(_ends(name, str(target)) for target in targets)
        else:
            is_named = _matches(str(targets), name, where)
        if not is_named:
            raise ModelError(
                f"`target_modules` does not name `{name}`, for which there are tensors",
                where=where,
                hint="it was changed after it was saved; bring the file back as it was",
            )


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _matches(pattern: str, name: str, where: Path) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise unusable(where, f"`target_modules` is no regular expression: {error}") from error


def by_pattern(patterns: Mapping[str, _V], name: str, default: _V) -> _V:
    """Return what is set for a layer: the first pattern that its whole name or its end matches.

    Patterns are regular expressions over module names, as PEFT reads them.
    """
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
