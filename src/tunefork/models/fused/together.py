"""Several layers over one input, in one step where they know how."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def apply_together(layers: Sequence[nn.Module], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return each layer's result over x.

    Layers all of one class that has an `apply_together` of its own are handed to it: a strategy
    may put such layers in place of a model's linear ones.
    """
    joint = getattr(type(layers[0]), "apply_together", None)
    if joint is None or any(type(layer) is not type(layers[0]) for layer in layers):
        return tuple(layer(x) for layer in layers)
    results: tuple[torch.Tensor, ...] = joint(layers, x)
    return results
