"""Keys and values of the rows in a batch, one slot each, and the two layouts that fill them.

`ChunkLayout` is for parts of prompts, `StepLayout` for one new token in each of the first slots.
Attention sees a multiple of `KEYS` places, so that it computes alike for rows of like length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional

from tunefork.models.attention import AttentionSettings, masked_attention
from tunefork.models.roots import Roots, States

KEYS = 32  # places that attention looks at are a multiple of this


def up_to(count: int, step: int) -> int:
    """Return the next multiple of a step."""
    return -(-count // step) * step


class Slots:
    """Room for keys and values, made layer by layer as it is used; it grows when a row asks."""

    def __init__(self, count: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.count = count
        self.capacity = 0
        self._dtype, self._device = dtype, device
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def reserve(self, length: int) -> None:
        """Have room for rows of a length in every slot."""
        if length <= self.capacity:
            return
        capacity = max(256, 2 * self.capacity, up_to(length, KEYS))
        for index, pair in self._layers.items():  # one at a time: twice the room of one layer
            if pair[0].shape[2] >= capacity:  # from an attempt that ran out of memory
                continue
            grown = []
            for states in pair:
                more = states.new_zeros(*states.shape[:2], capacity, states.shape[3])
                more[:, :, : states.shape[2]] = states
                grown.append(more)
            self._layers[index] = (grown[0], grown[1])
        self.capacity = capacity

    def shrink(self) -> None:
        """Give back all room but a little; no row may be left."""
        self.capacity = KEYS
        for index, pair in self._layers.items():
            keys, values = (states[:, :, :KEYS].clone() for states in pair)
            self._layers[index] = (keys, values)

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> States:
        """Return a layer's keys and values: (slots, key heads, capacity, head size)."""
        if index not in self._layers:
            self._layers[index] = (self._room(key), self._room(value))
        return self._layers[index]

    def copy(self, source: int, target: int, length: int) -> None:
        """Let a slot hold the first places of another."""
        for pair in self._layers.values():
            for states in pair:
                states[target, :, :length] = states[source, :, :length]

    def read(self, slot: int, begin: int, end: int) -> list[torch.Tensor]:
        """Return a copy of some places of a row: keys, values of each layer in turn."""
        return [
            states[slot, :, begin:end].clone()
            for _, pair in sorted(self._layers.items())
            for states in pair
        ]

    def write(self, slot: int, begin: int, kept: Sequence[torch.Tensor]) -> None:
        """Put back what `read` returned, or what a model has learned: (key heads, n, head size)."""
        for index, pair in enumerate(zip(kept[::2], kept[1::2], strict=True)):
            for room, states in zip(self.layer(index, *pair), pair, strict=True):
                room[slot, :, begin : begin + states.shape[1]] = states

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        heads, _, size = states.shape
        shape = (self.count, heads, self.capacity, size)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)


@dataclass(frozen=True)
class Chunk:
    """Part of a prompt that is computed in one go."""

    slot: int
    begin: int  # its first place in the slot
    length: int  # places that it fills
    padded: int  # how many tokens are computed; those beyond its length are overwritten later


class _InSlots:
    """What both layouts are: tokens at positions of their rows, whose slots hold all before."""

    def __init__(
        self, slots: Slots, positions: torch.Tensor, adapters: torch.Tensor | None
    ) -> None:
        self._slots = slots
        self._positions = positions.unsqueeze(0)
        self.adapters = adapters

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own row: (1, tokens)."""
        return self._positions

    def behind(self, roots: Roots) -> Self:
        """Return itself: the slots hold the learned prefixes."""
        return self


class ChunkLayout(_InSlots):
    """Parts of several prompts, packed into one row; each sees its slot up to itself."""

    def __init__(
        self,
        slots: Slots,
        chunks: Sequence[Chunk],
        adapters: torch.Tensor | None,
        device: torch.device | str,
    ) -> None:
        """Lay out chunks, one at least, no two of one slot.

        Args:
            slots: Where the rows are.
            chunks: Which parts of them.
            adapters: As `Layout.adapters`.
            device: The model's.
        """
        places = [torch.arange(chunk.padded) + chunk.begin for chunk in chunks]
        last = [chunk.begin + chunk.length - 1 for chunk in chunks]
        known = [here.clamp(max=end) for here, end in zip(places, last, strict=True)]
        super().__init__(slots, torch.cat(known).to(device), adapters)
        self._chunks = chunks
        self._places = [here.to(device) for here in places]
        self._allowed: dict[int | None, list[torch.Tensor]] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Keep keys and values, and mix within each slot (see `Layout.attend`)."""
        keys, values = self._slots.layer(settings.layer, key, value)
        mixed, begin = [], 0
        for chunk, allowed in zip(self._chunks, self._masks(settings.window), strict=True):
            end, till = begin + chunk.padded, chunk.begin + chunk.padded
            keys[chunk.slot, :, chunk.begin : till] = key[:, begin:end]
            values[chunk.slot, :, chunk.begin : till] = value[:, begin:end]
            seen = allowed.shape[1]
            found = masked_attention(
                query[None, :, begin:end],
                keys[chunk.slot : chunk.slot + 1, :, :seen],
                values[chunk.slot : chunk.slot + 1, :, :seen],
                allowed,
                settings,
            )
            mixed.append(found[0].transpose(0, 1))
            begin = end
        return torch.cat(mixed)

    def _masks(self, window: int | None) -> list[torch.Tensor]:
        """Return for each chunk which places each token sees: (tokens, places)."""
        if window not in self._allowed:
            self._allowed[window] = [_seen(here, window) for here in self._places]
        return self._allowed[window]


def _seen(places: torch.Tensor, window: int | None) -> torch.Tensor:
    there = torch.arange(up_to(int(places[-1]) + 1, KEYS), device=places.device)
    allowed = there <= places.unsqueeze(1)
    if window is not None:
        allowed &= there > places.unsqueeze(1) - window
    return allowed


class StepLayout(_InSlots):
    """One new token in each of the first slots; each sees its slot so far, itself included."""

    def __init__(
        self,
        slots: Slots,
        places: torch.Tensor,
        adapters: torch.Tensor | None,
        longest: int,
        last: int,
    ) -> None:
        """Lay out a step.

        Args:
            slots: Where the rows are.
            places: Where each slot's token goes: (slots in use,).
            adapters: As `Layout.adapters`.
            longest: The most places filled, the new ones included.
            last: The last position that the model takes.
        """
        super().__init__(slots, places.clamp(max=last), adapters)
        self._places = places
        self._longest = up_to(longest, KEYS)
        self._rows = torch.arange(len(places), device=places.device)
        self._biases: dict[int | None, torch.Tensor] = {}

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Keep the new key and value, and mix over each slot (see `Layout.attend`)."""
        keys, values = self._slots.layer(settings.layer, key, value)
        keys[self._rows, :, self._places] = key.transpose(0, 1)
        values[self._rows, :, self._places] = value.transpose(0, 1)
        heads, rows, size = query.shape
        # Heads that share a key head stand beside each other in time, so keys are not copied.
        folded = query.transpose(0, 1).reshape(rows, len(key), heads // len(key), size)
        seen_keys = keys[:rows, :, : self._longest]
        seen_values = values[:rows, :, : self._longest]
        bias = self._bias(settings.window, query.dtype)
        if settings.softcap is None:
            mixed = functional.scaled_dot_product_attention(
                folded, seen_keys, seen_values, attn_mask=bias, scale=settings.scaling
            )
        else:  # which the fused kernels do not know
            scores = torch.matmul(folded * settings.scaling, seen_keys.mT)
            scores = torch.tanh(scores / settings.softcap) * settings.softcap + bias
            mixed = torch.matmul(torch.softmax(scores, dim=-1), seen_values)
        return mixed.reshape(rows, heads, -1)

    def _bias(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return what keeps a row from seeing what is not its own: (rows, 1, 1, places)."""
        if window not in self._biases:
            there = torch.arange(self._longest, device=self._places.device)
            last = self._places.unsqueeze(1)
            hidden = there > last
            if window is not None:
                hidden |= there <= last - window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._biases[window] = bias.masked_fill_(hidden, float("-inf"))[:, None, None]
        return self._biases[window]
