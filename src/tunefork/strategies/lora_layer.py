"""A frozen linear layer, and beside it the changes that adapters make to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from tunefork.models.quantized import FrozenWeight
from tunefork.models.routing import Places, current_routing, current_served
from tunefork.strategies.beside import Change
from tunefork.strategies.low_rank import LowRank, low_rank_linear
from tunefork.strategies.low_rank_at import ChangeAt, low_rank_at
from tunefork.strategies.parts import AdapterPart
from tunefork.strategies.targets import sizes


def frozen_weight(layer: nn.Module) -> FrozenWeight:
    """Return a linear layer's weight as (out, in), as it is kept."""
    weight: FrozenWeight = layer.weight  # type: ignore[assignment]
    return layer.weight.T if isinstance(layer, Conv1D) else weight


class LowRankChange(AdapterPart):
    """What one adapter adds to one layer: scale * B A.

    It is kept and trained in float32, and computed in the layer's own number format.
    """

    def __init__(self, base_layer: nn.Module, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        n_in, n_out = sizes(base_layer)
        device = next(base_layer.parameters()).device
        self.lora_A = nn.Parameter(torch.empty(rank, n_in, device=device))
        self.lora_B = nn.Parameter(torch.zeros(n_out, rank, device=device))
        self.scale = scale
        self.dropout = dropout
        self.is_enabled = True

    @property
    def is_joinable(self) -> bool:
        """Whether layers over the same input may be computed in one step with this one."""
        return not (self.dropout and self.training)  # each drops its own way

    def forward(self, base_layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Return the changed layer's result: (..., out) for x (..., in)."""
        return low_rank_linear(x, self._dropped(x), [self.beside(base_layer)])[0]

    def added(self, base_layer: nn.Module, x: torch.Tensor, base_y: torch.Tensor) -> torch.Tensor:
        """Return what to add to the base's result, in steps: (tokens, out) for x (tokens, in)."""
        low = functional.linear(self._dropped(x), self.lora_A.to(x.dtype))
        return functional.linear(low, self.lora_B.to(x.dtype)) * self.scale

    def beside(self, base_layer: nn.Module) -> LowRank:
        """Return the layer and this change as one step takes them."""
        bias: torch.Tensor | None = base_layer.bias  # type: ignore[assignment]
        return LowRank(frozen_weight(base_layer), bias, self.lora_A, self.lora_B, self.scale)

    def served(self, base_layer: nn.Module) -> Change:
        """Return what is added, as serving takes it."""
        up = self.lora_B.detach().T * self.scale
        return Change(self.lora_A.detach().unsqueeze(0), up.unsqueeze(0))

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight, in float32, for the base's: both (out, in)."""
        return weight.detach().float() + self.scale * (self.lora_B.detach() @ self.lora_A.detach())

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, self.dropout, self.training)


class LoraLinear(nn.Module):
    """A frozen linear layer with the changes of several adapters; each token has one of them."""

    def __init__(self, base_layer: nn.Module, *, is_head: bool = False) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.is_head = is_head  # sees only the tokens that reach the output head
        self.is_kept = False  # also where no adapter is left
        self.changes = nn.ModuleDict()
        self.of: dict[int, LowRankChange] = {}  # the same by number

    def put(self, number: int, change: LowRankChange) -> None:
        """Let the tokens of an adapter be changed."""
        self.of[number] = change
        self.changes[str(number)] = change

    def take(self, number: int) -> LowRankChange:
        """Take an adapter's change away, and return it."""
        del self.changes[str(number)]
        return self.of.pop(number)

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight, for models that ask a layer for it."""
        return self.base_layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias."""
        return self.base_layer.bias  # type: ignore[return-value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        served = current_served()
        if served is not None:
            return served.changed(self, x, self.base_layer(x))
        places = self._places()
        number = 1 if places is None else places.only
        if number is None and places is not None:
            return self._mixed(x, places)
        change = self._enabled(number)
        y: torch.Tensor = self.base_layer(x) if change is None else change(self.base_layer, x)
        return y

    @staticmethod
    def apply_together(layers: Sequence[LoraLinear], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (..., in) to one (..., out) per layer, in one step where that is the same."""
        served = current_served()
        if served is not None:
            return tuple(served.changed(layer, x, layer.base_layer(x)) for layer in layers)
        places = layers[0]._places()
        number = 1 if places is None else places.only
        beside = [
            change.beside(layer.base_layer)
            for layer in layers
            if (change := layer._enabled(number)) is not None and change.is_joinable
        ]
        if len(beside) < len(layers):
            return tuple(layer(x) for layer in layers)
        return low_rank_linear(x, x, beside)

    def _places(self) -> Places | None:
        routing = current_routing()
        if routing is None:
            return None
        return routing.head if self.is_head else routing.row

    def _enabled(self, number: int | None) -> LowRankChange | None:
        change = None if number is None else self.of.get(number)
        return change if change is not None and change.is_enabled else None

    def _mixed(self, x: torch.Tensor, places: Places) -> torch.Tensor:
        """Compute the base for all tokens at once, and add to each what its adapter changes."""
        rows = x.flatten(0, -2)
        y: torch.Tensor = self.base_layer(x).flatten(0, -2)
        own = [(at, change) for n, at in places.of.items() if (change := self._enabled(n))]
        joined = [
            ChangeAt(at, change.lora_A, change.lora_B, change.scale)
            for at, change in own
            if change.is_joinable
        ]
        for at, change in own:
            if not change.is_joinable:
                added = change.added(self.base_layer, rows[at], y[at])
                y = y.index_add(0, at, added)
        if joined:
            y = y + low_rank_at(rows, joined)
        return y.view(*x.shape[:-1], -1)
