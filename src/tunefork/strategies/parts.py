"""What of a model belongs to the base, and what to adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tunefork.models.quantized import quantized_layers


class AdapterPart(nn.Module):
    """A module all of whose parameters belong to an adapter.

    A module that stands around one of the base keeps it as `base_layer`.
    """


def base_name(path: str) -> str:
    """Return the base's own name for what stands at a path of a model with adapters."""
    return path.replace(".base_layer", "")


def base_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Return the frozen tensors of the base, by its own names, whatever adapters stand on it."""
    own = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, AdapterPart)
        for parameter in module.parameters()
    }
    tensors = {
        base_name(name): parameter
        for name, parameter in model.named_parameters()
        if id(parameter) not in own
    }
    for path, layer in quantized_layers(model):  # what else four bits need to be read
        name = base_name(path)
        tensors |= {f"{name}.{part}": tensor for part, tensor in layer.named_buffers()}
    return tensors
