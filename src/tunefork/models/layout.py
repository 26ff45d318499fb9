"""How the tokens of one packed row relate: which segment each belongs to, and what it may see.

A packed row holds many segments one after another, with no padding between them. A segment sees
itself and the segments that it continues: documents that begin alike continue one shared prefix,
which is then computed once. The model computes everything but attention on the row as it is;
attention asks the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tunefork.models.attention import AttentionSettings
from tunefork.models.grouped import Groups, attend


class Layout(Protocol):
    """What a model's attention function is given instead of a mask."""

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document: (1, tokens)."""
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
    """A stretch of the row. `parent` is the number of the segment that it continues, or -1."""

    length: int
    parent: int = -1


class PackedLayout:
    """Segments of a row, one after another; each sees itself and what it continues."""

    def __init__(
        self, segments: Sequence[Segment] | Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        """Lay out segments, or documents of the given lengths that continue nothing."""
        self.segments = tuple(
            part if isinstance(part, Segment) else Segment(int(part)) for part in segments
        )
        places = _places(self.segments)
        before = torch.tensor(
            [len(path) - part.length for path, part in zip(places, self.segments, strict=True)]
        )
        sizes = torch.tensor([part.length for part in self.segments])
        starts = torch.cumsum(sizes, 0) - sizes
        positions = torch.arange(int(sizes.sum())) + torch.repeat_interleave(before - starts, sizes)
        self._positions = positions.unsqueeze(0).to(device)
        own = [path[int(first) :] for path, first in zip(places, before, strict=True)]
        self.groups = Groups(own, places, device)

    @property
    def positions(self) -> torch.Tensor:
        """The position of each token in its own document: (1, tokens)."""
        return self._positions

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        """Mix values for each token of the row (see `Layout.attend`)."""
        query, key, value = (states.transpose(0, 1) for states in (query, key, value))
        return attend(query, key, value, groups=self.groups, settings=settings)


def _places(segments: Sequence[Segment]) -> list[torch.Tensor]:
    """Return for each segment the places in the row of all that its last token sees."""
    found: list[torch.Tensor] = []
    start = 0
    for number, segment in enumerate(segments):
        if not -1 <= segment.parent < number:
            raise ValueError(f"segment {number} continues {segment.parent}, which is not before it")
        own = torch.arange(start, start + segment.length)
        found.append(own if segment.parent < 0 else torch.cat([found[segment.parent], own]))
        start += segment.length
    return found
