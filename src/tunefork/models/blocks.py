"""Where a decoder's layers stand in its module tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def decoder_layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield each decoder layer with its path, from the first to the last."""
    n_layers = model.config.num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            yield from ((f"{path}.{number}", layer) for number, layer in enumerate(module))
            return
