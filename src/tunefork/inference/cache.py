"""Keys and values of rows that are being decoded, one slot per row.

Two layouts write to the cache: `PrefillLayout` for whole prompts packed into one row, and
`DecodeLayout` for one new token per row. A slot begins with the learned prefix of its adapter,
where it has one; positions count from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch

from tunefork.models import PackedLayout, Segment
from tunefork.models.attention import AttentionSettings, masked_attention
from tunefork.models.roots import Roots


class KeyValueCache:
    """Room for `slots` rows of at most `capacity` tokens, made layer by layer as it is used."""

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots = slots
        self.capacity = capacity
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def layer(
        self, index: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's keys and values, each (slots, capacity, key heads, head size)."""
        if index not in self._layers:
            self._layers[index] = (self._room(key), self._room(value))
        return self._layers[index]

    def copy_along(self, n: int) -> None:
        """Let the n - 1 slots behind each n-th one hold what it holds."""
        for states in (each for layer in self._layers.values() for each in layer):
            by_first = states.view(-1, n, *states.shape[1:])
            by_first[:, 1:] = by_first[:, :1]

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        heads, _, size = states.shape
        return states.new_zeros(self.slots, self.capacity, heads, size)


class PrefillLayout(PackedLayout):
    """Whole prompts packed into one row; their keys and values are kept in the given slots."""

    def __init__(
        self,
        cache: KeyValueCache,
        slots: Sequence[int],
        prompts: Sequence[Segment],
        device: torch.device | str,
    ) -> None:
        """Lay out prompts that continue nothing, each with a slot of the cache."""
        super().__init__(prompts, device)
        self._cache = cache
        sizes = torch.tensor([prompt.length for prompt in prompts])
        self._slots = torch.repeat_interleave(torch.tensor(list(slots)), sizes).to(device)
        self._slots_of: dict[int, list[int]] = {}
        for slot, prompt in zip(slots, prompts, strict=True):
            self._slots_of.setdefault(prompt.adapter, []).append(slot)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Keep keys and values, and mix within each prompt (see `Layout.attend`)."""
        keys, values = self._cache.layer(settings.layer, key, value)
        where = (self._slots, self.positions[0])
        keys.index_put_(where, key.transpose(0, 1))
        values.index_put_(where, value.transpose(0, 1))
        for adapter, learned in self.learned(settings.layer, key.dtype).items():
            slots = self._slots_of[adapter]
            for room, states in zip((keys, values), learned, strict=True):
                room[slots, : len(states)] = states
        return super().attend(query, key, value, settings)


class DecodeLayout:
    """One new token per row; each sees all of its slot so far, itself included."""

    def __init__(
        self,
        cache: KeyValueCache,
        slots: torch.Tensor,
        lengths: torch.Tensor,
        adapters: torch.Tensor | None = None,
    ) -> None:
        self._cache = cache
        self._slots = slots  # (rows,)
        self._lengths = lengths  # (rows,): places filled in each slot before this token
        self._longest = int(lengths.max()) + 1
        self.adapters = adapters  # (rows,), or None: all have adapter 1

    @property
    def positions(self) -> torch.Tensor:
        """The position of each new token: (1, rows)."""
        return self._lengths.unsqueeze(0)

    def behind(self, roots: Roots) -> Self:
        """Return itself: the slots hold the learned prefixes."""
        return self

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Keep the new key and value, and mix over each slot (see `Layout.attend`)."""
        keys, values = self._cache.layer(settings.layer, key, value)
        where = (self._slots, self._lengths)
        keys.index_put_(where, key.transpose(0, 1))
        values.index_put_(where, value.transpose(0, 1))
        seen = torch.arange(self._longest, device=query.device)
        last = self._lengths.unsqueeze(1)
        allowed = seen <= last  # (rows, longest)
        if settings.window is not None:
            allowed &= seen > last - settings.window
        mixed = masked_attention(
            query.permute(1, 0, 2).unsqueeze(2),  # (rows, heads, 1, size)
            self._rows(keys),
            self._rows(values),
            allowed.unsqueeze(1),
            settings,
        )
        return mixed.squeeze(2)

    def _rows(self, states: torch.Tensor) -> torch.Tensor:
        """Return (rows, key heads, longest, size)."""
        return states[self._slots, : self._longest].transpose(1, 2)
