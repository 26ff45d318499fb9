"""What an adapter adds beside the base at one place of a model, and its arithmetic in serving.

Low-rank changes, DoRA and bottlenecks are all: y + up act(down x + bias) + bias + gain * (y - b),
with parts of it left out. Nothing here keeps anything for a backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunefork.strategies.activations import ACTIVATIONS, Activation


@dataclass(frozen=True)
class Shape:
    """The place of a change, by its name in the base, and the sizes of its tensors."""

    site: str
    rank: int
    n_in: int
    n_out: int
    has_gain: bool = False
    activation: Activation | None = None  # with biases where there is one

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each part has: down, up, gain, and the biases of both."""
        has_biases = self.activation is not None
        return (
            self.rank * self.n_in,
            self.rank * self.n_out,
            self.n_out * self.has_gain,
            self.rank * has_biases,
            self.n_out * has_biases,
        )

    def change(self, parts: Sequence[torch.Tensor]) -> Change:
        """Return the change whose parts have these sizes."""
        down, up, gain, down_bias, up_bias = parts
        return Change(
            down.view(-1, self.rank, self.n_in),
            up.view(-1, self.rank, self.n_out),
            gain if self.has_gain else None,
            down_bias if self.activation else None,
            up_bias if self.activation else None,
            self.activation,
        )


def cut(shapes: Sequence[Shape], joined: torch.Tensor) -> list[Change]:
    """Return the changes in (rows, numbers) that were joined by `Change.joined`, as views."""
    sizes = [size for shape in shapes for size in shape.sizes]
    parts = joined.split_with_sizes(sizes, 1)
    return [shape.change(parts[5 * at : 5 * at + 5]) for at, shape in enumerate(shapes)]


@dataclass(frozen=True)
class Change:
    """The change of each row, or of all where there is one row.

    Attributes:
        down: (rows, rank, in).
        up: (rows, rank, out); a factor is part of it.
        gain: (rows, out): how much of the base's result, less its bias, is added.
        down_bias: (rows, rank).
        up_bias: (rows, out).
        activation: What the narrow states go through; nothing where None.
    """

    down: torch.Tensor
    up: torch.Tensor
    gain: torch.Tensor | None = None
    down_bias: torch.Tensor | None = None
    up_bias: torch.Tensor | None = None
    activation: Activation | None = None

    def shape(self, site: str) -> Shape:
        """Return its sizes, for a place."""
        _, rank, n_in = self.down.shape
        return Shape(site, rank, n_in, self.up.shape[2], self.gain is not None, self.activation)

    def joined(self) -> torch.Tensor:
        """Return all its numbers in one row per row: (rows, numbers), float32."""
        parts = (self.down, self.up, self.gain, self.down_bias, self.up_bias)
        return torch.cat([part.flatten(1).float() for part in parts if part is not None], dim=1)

    def by_row(self, x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return what is added where each row has a change of its own; float32.

        Products of single rows, so that no row's result depends on another's. A row has to stand
        on the left: by `down @ x`, one by itself comes out differently than beside others.

        Args:
            x: What the layer was given, (rows, in).
            y: What the base made of it, (rows, out).
            bias: The base's, part of y: (out,).
        """
        down, up = self.down.expand(len(x), -1, -1), self.up.expand(len(x), -1, -1)
        low = self._activated(torch.bmm(x.float().unsqueeze(1), down.mT).squeeze(1))  # (rows, rank)
        added = torch.bmm(low.unsqueeze(1), up).squeeze(1)
        return self._behind(added, y, bias)

    def of_one(self, x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return what is added where all rows have this one change: see `by_row`."""
        low = self._activated(x @ self.down[0].to(x.dtype).T)
        return self._behind((low @ self.up[0].to(x.dtype)).float(), y, bias)

    def _activated(self, low: torch.Tensor) -> torch.Tensor:
        if self.activation is None or self.down_bias is None:
            return low
        return ACTIVATIONS[self.activation](low + self.down_bias.to(low.dtype))

    def _behind(
        self, added: torch.Tensor, y: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if self.up_bias is not None:
            added = added + self.up_bias
        if self.gain is not None:
            plain = y.float() if bias is None else y.float() - bias
            added = torch.addcmul(added, self.gain, plain)
        return added
