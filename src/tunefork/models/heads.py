"""A head beside the model's own: a linear map of what the model makes of a row's last token.

That token alone has seen the whole row. Classifiers and reward models end in such a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunefork.models.batch import Batch
from tunefork.models.run import hidden_on

_START = 0.02  # standard deviation: what transformers starts new heads with


class Head(nn.Module):
    """One number per output for each row: hidden state times `weight`, in float32.

    Attributes:
        weight: (outputs, hidden size).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float())

    @classmethod
    def new(cls, model: Any, n_outputs: int, seed: int) -> Head:
        """Return a random one for a model, on its device."""
        generator = torch.Generator().manual_seed(seed)
        size = model.get_input_embeddings().weight.shape[1]
        weight = torch.randn(n_outputs, size, generator=generator) * _START
        return cls(weight.to(model.device))

    def of(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return its outputs for each row of a batch: (rows, outputs)."""
        return self.on(hidden_on(model, batch.ids, batch.layout).index_select(0, batch.ends))

    def on(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return its outputs for hidden states: (places, outputs) of (places, hidden size)."""
        return functional.linear(hidden.float(), self.weight)
