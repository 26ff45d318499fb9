"""How the tokens of one packed row relate: which segment each belongs to, and what it may see.

A packed row holds many segments one after another, with no padding between them. A segment sees
itself and the segments that it continues: documents that begin alike continue one shared prefix,
which is then computed once. The model computes everything but attention on the row as it is;
attention asks the layout. Where the model has a learned prefix for an adapter, each document of
that adapter continues it: its keys and values stand behind the row's tokens and have no queries.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from tunefork.models.attention import AttentionSettings
from tunefork.models.grouped import attend
from tunefork.models.groups import Groups
from tunefork.models.roots import Roots, States


class Layout(Protocol):
    """What a model's attention function is given instead of a mask."""

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document: (1, tokens)."""
        ...

    @property
    def adapters(self) -> torch.Tensor | None:
        """The number of each token's adapter: (tokens,), or None where all have adapter 1."""
        ...

    def behind(self, roots: Roots) -> Layout:
        """Return the same row with each document behind the learned prefix of its adapter."""
        ...

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Mix values for each token of the row.

        Args:
            query: (heads, tokens, head size).
            key: (key heads, tokens, head size).
            value: (key heads, tokens, value head size).
            settings: What the layer asks for.

        Returns:
            (tokens, heads, value head size).
        """
        ...


@dataclass(frozen=True)
class Segment:
    """A stretch of the row. `parent` is the number of the segment that it continues, or -1.

    `adapter` is the number, among the model's adapters, of the one that computes it; 0 is the
    base alone. A segment has the adapter of the segment that it continues.
    """

    length: int
    parent: int = -1
    adapter: int = 1


class PackedLayout:
    """Segments of a row, one after another; each sees itself and what it continues."""

    def __init__(
        self, segments: Sequence[Segment] | Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """Lay out segments, or documents of the given lengths that continue nothing."""
        self.segments = tuple(
            part if isinstance(part, Segment) else Segment(int(part)) for part in segments
        )
        self.paths = _paths(self.segments)  # per segment: the places that its last token sees
        self.adapters = _adapters(self.segments, device)  # (tokens,), or None: all have adapter 1
        self._device = device
        self._learned: dict[int, Sequence[States]] = {}  # per adapter: its prefix in each layer
        self._arrange(self.paths, 0)

    def _arrange(self, seen: Sequence[torch.Tensor], n_learned: int) -> None:
        pairs = list(zip(seen, self.paths, self.segments, strict=True))
        positions = [torch.arange(len(all_) - part.length, len(all_)) for all_, _, part in pairs]
        self._positions = torch.cat(positions).unsqueeze(0).to(self._device)
        own = [path[len(path) - part.length :] for _, path, part in pairs]
        self.groups = Groups(own, seen, self._device, n_learned)

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document, behind its prefix: (1, tokens)."""
        return self._positions

    def behind(self, roots: Roots) -> Self:
        """Return the same row with each document behind the learned prefix of its adapter."""
        numbers = sorted({segment.adapter for segment in self.segments})
        present = {number: root for number in numbers if (root := roots.active(number)) is not None}
        if not present:
            return self
        begin = sum(segment.length for segment in self.segments)
        places, n_learned = {}, 0
        for number, root in present.items():
            places[number] = torch.arange(root.n_tokens) + begin + n_learned
            n_learned += root.n_tokens
        nothing = torch.empty(0, dtype=torch.long)
        seen = [
            torch.cat([places.get(segment.adapter, nothing), path])
            for segment, path in zip(self.segments, self.paths, strict=True)
        ]
        found = copy.copy(self)
        found._learned = {number: root.states() for number, root in present.items()}
        found._arrange(seen, n_learned)
        return found

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Mix values for each token of the row (see `Layout.attend`)."""
        query, key, value = (states.transpose(0, 1) for states in (query, key, value))
        if self._learned:
            learned = self.learned(settings.layer, key.dtype).values()
            key = torch.cat([key, *(keys for keys, _ in learned)])
            value = torch.cat([value, *(values for _, values in learned)])
        return attend(query, key, value, groups=self.groups, settings=settings)

    def learned(self, layer: int, dtype: torch.dtype) -> dict[int, States]:
        """Return the learned keys and values of each adapter in a layer, in its number format."""
        return {
            number: (states[layer][0].to(dtype), states[layer][1].to(dtype))
            for number, states in self._learned.items()
        }


def _paths(segments: Sequence[Segment]) -> list[torch.Tensor]:
    """Return for each segment the places in the row of all that its last token sees."""
    found: list[torch.Tensor] = []
    start = 0
    for number, segment in enumerate(segments):
        if not -1 <= segment.parent < number:
            raise ValueError(f"segment {number} continues {segment.parent}, which is not before it")
        if segment.parent >= 0 and segment.adapter != segments[segment.parent].adapter:
            raise ValueError(f"segment {number} continues one of another adapter")
        own = torch.arange(start, start + segment.length)
        found.append(own if segment.parent < 0 else torch.cat([found[segment.parent], own]))
        start += segment.length
    return found


def _adapters(segments: Sequence[Segment], device: torch.device | str) -> torch.Tensor | None:
    if all(segment.adapter == 1 for segment in segments):
        return None
    numbers = torch.tensor([segment.adapter for segment in segments])
    lengths = torch.tensor([segment.length for segment in segments])
    return torch.repeat_interleave(numbers, lengths).to(device)
