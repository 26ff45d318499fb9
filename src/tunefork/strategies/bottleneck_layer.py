"""Bottleneck adapters behind one sub-layer, and their arithmetic as one autograd step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tunefork.models.routing import current_routing, current_served
from tunefork.strategies.activations import ACTIVATIONS, Activation
from tunefork.strategies.beside import Change
from tunefork.strategies.parts import AdapterPart

_NAME = "bottleneck"  # what the adapters behind a sub-layer are called in it


def bottleneck(
    h: torch.Tensor,
    down: torch.Tensor,
    down_bias: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor,
    *,
    activation: Activation,
) -> torch.Tensor:
    """Return h + up act(down h + down_bias) + up_bias.

    Houlsby et al. 2019 (arXiv 1902.00751). Kept for the backward pass are h and the narrow
    product; the activation is computed again.

    Args:
        h: (..., size).
        down: (narrow, size), in any number format; computed in h's.
        down_bias: (narrow,), likewise.
        up: (size, narrow), likewise.
        up_bias: (size,), likewise.
        activation: Its name.

    Returns:
        (..., size), in h's number format.
    """
    rows = h.flatten(0, -2)
    found: torch.Tensor = _Bottleneck.apply(  # type: ignore[no-untyped-call]
        rows, down, down_bias, up, up_bias, ACTIVATIONS[activation]
    )
    return found.view_as(h)


class BottleneckAdapter(AdapterPart):
    """One adapter behind one sub-layer, in float32; without effect at the start."""

    def __init__(self, down: torch.Tensor, activation: Activation) -> None:
        """Begin with the given projection down: (narrow, size)."""
        super().__init__()
        narrow, size = down.shape
        self.down = nn.Parameter(down)
        self.down_bias = nn.Parameter(down.new_zeros(narrow))
        self.up = nn.Parameter(down.new_zeros(size, narrow))
        self.up_bias = nn.Parameter(down.new_zeros(size))
        self.activation: Activation = activation
        self.is_enabled = True

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map (..., size) to (..., size)."""
        if not self.is_enabled:
            return h
        parts = (self.down, self.down_bias, self.up, self.up_bias)
        return bottleneck(h, *parts, activation=self.activation)

    def change(self) -> Change:
        """Return what is added, as serving takes it."""
        tensors = (self.down, self.up.T, self.down_bias, self.up_bias)
        down, up, down_bias, up_bias = (each.detach().unsqueeze(0) for each in tensors)
        return Change(down, up, None, down_bias, up_bias, self.activation)


class Bottlenecks(AdapterPart):
    """All adapters behind one sub-layer, by number; each token has its own."""

    def __init__(self, sublayer: nn.Module) -> None:
        super().__init__()
        self.by_number = nn.ModuleDict()
        self.is_kept = False  # also where no adapter is left
        self._hook = sublayer.register_forward_hook(_after)

    def remove(self) -> None:
        """Let the sub-layer give what it gave before."""
        self._hook.remove()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map (1, tokens, size) to the same shape."""
        served, routing = current_served(), current_routing()
        if served is not None:
            return served.changed(self, h, h)
        if routing is None:
            return self._changed(1, h)
        if routing.row.only is not None:
            return self._changed(routing.row.only, h)
        rows = h.flatten(0, -2)
        changed = rows
        for number, places in routing.row.of.items():
            if str(number) in self.by_number:
                own = self._changed(number, rows.index_select(0, places))
                changed = changed.index_copy(0, places, own)
        return changed.view_as(h)

    def _changed(self, number: int, h: torch.Tensor) -> torch.Tensor:
        key = str(number)
        return cast(torch.Tensor, self.by_number[key](h)) if key in self.by_number else h


def put_behind(sublayer: nn.Module, number: int, adapter: BottleneckAdapter) -> None:
    """Let an adapter change what a sub-layer gives for the tokens of its number."""
    if not hasattr(sublayer, _NAME):
        sublayer.add_module(_NAME, Bottlenecks(sublayer))
    _behind(sublayer).by_number[str(number)] = adapter


def keep_behind(sublayer: nn.Module) -> Bottlenecks:
    """Return what stands behind a sub-layer, which stays when no adapter is left."""
    adapters = _behind(sublayer)
    adapters.is_kept = True
    return adapters


def take_away(sublayer: nn.Module, number: int) -> None:
    """Take an adapter away from behind a sub-layer."""
    adapters = _behind(sublayer)
    del adapters.by_number[str(number)]
    if not adapters.by_number and not adapters.is_kept:
        adapters.remove()
        delattr(sublayer, _NAME)


def _behind(sublayer: nn.Module) -> Bottlenecks:
    return cast(Bottlenecks, sublayer.get_submodule(_NAME))


def _after(sublayer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    # Attention gives its weights besides, some mixtures of experts their choices.
    if isinstance(output, tuple):
        return _behind(sublayer)(output[0]), *output[1:]
    return _behind(sublayer)(output)


class _Bottleneck(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: torch.Tensor,
        down: torch.Tensor,
        down_bias: torch.Tensor,
        up: torch.Tensor,
        up_bias: torch.Tensor,
        activation: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        ctx.dtype = down.dtype
        down, down_bias, up, up_bias = (part.to(h.dtype) for part in (down, down_bias, up, up_bias))
        narrow = torch.addmm(down_bias, h, down.T)
        ctx.save_for_backward(h, narrow, down, up)
        ctx.activation = activation
        return torch.addmm(h, activation(narrow), up.T).add_(up_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        h, narrow, down, up = ctx.saved_tensors
        with torch.enable_grad():
            inner = narrow.detach().requires_grad_()
            active = ctx.activation(inner)
        (d_narrow,) = torch.autograd.grad(active, inner, gradient @ up)
        found = (
            d_narrow.T @ h,
            d_narrow.sum(0),
            gradient.T @ active.detach(),
            gradient.sum(0),
        )
        d_h = torch.addmm(gradient, d_narrow, down) if ctx.needs_input_grad[0] else None
        return d_h, *(part.to(ctx.dtype) for part in found), None
