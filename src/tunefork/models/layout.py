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
from tunefork.models.grouped import attend
from tunefork.models.groups import Groups


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
        self.paths = _paths(self.segments)  # per segment: the places that its last token sees
        pairs = list(zip(self.paths, self.segments, strict=True))
        positions = [torch.arange(len(path) - part.length, len(path)) for path, part in pairs]
        self._positions = torch.cat(positions).unsqueeze(0).to(device)
        own = [path[len(path) - part.length :] for path, part in pairs]
        self.groups = Groups(own, self.paths, device)

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


def _paths(segments: Sequence[Segment]) -> list[torch.Tensor]:
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
