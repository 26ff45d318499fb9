"""Adapters as they are kept for serving, and what is added for the rows of one call.

A resident adapter is one row of float32 numbers beside a description of them; no module stands on
the model for it. Rows of the batch that have the same adapter share its numbers. Where rows of one
description have several, their numbers are stacked once, when a row joins, not in every step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from tunefork.strategies.beside import Change, Shape, cut

Description = tuple[Shape, ...]


@dataclass(eq=False)
class Resident:
    """One adapter in memory."""

    number: int  # of its learned prefix; 0 where it has none
    shapes: Description  # what its numbers are; nothing where it is a prefix
    numbers: torch.Tensor  # (1, numbers), float32
    size_bytes: int


@dataclass(frozen=True)
class _At:
    """A change, and the rows of the call that it is for; all of them where None."""

    rows: torch.Tensor | slice | None
    change: Change
    is_of_one: bool  # many rows of one adapter, to be computed as products
    bias: torch.Tensor | None  # the layer's own, where it has one

    def onto(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return what the base made of x with what is added: (rows, out); y may be changed."""
        compute = self.change.of_one if self.is_of_one else self.change.by_row
        if self.rows is None:
            return y + compute(x, y, self.bias).to(y.dtype)
        if isinstance(self.rows, slice):
            own = y[self.rows]
            own += compute(x[self.rows], own, self.bias).to(y.dtype)
            return y
        own_x, own_y = x.index_select(0, self.rows), y.index_select(0, self.rows)
        return y.index_add(0, self.rows, compute(own_x, own_y, self.bias).to(y.dtype))


class Added:
    """What is added at each site for the rows of one call: see `models.routing.Served`."""

    def __init__(self, sites: Mapping[str, nn.Module]) -> None:
        self._sites = sites
        self._at: dict[nn.Module, list[_At]] = {}

    def put(
        self,
        shapes: Description,
        numbers: torch.Tensor,
        rows: torch.Tensor | slice | None,
        is_of_one: bool,
    ) -> None:
        """Add changes of one description: (rows or 1, numbers), for some rows of the call."""
        for shape, change in zip(shapes, cut(shapes, numbers), strict=True):
            site = self._sites[shape.site]
            found = _At(rows, change, is_of_one, getattr(site, "bias", None))
            self._at.setdefault(site, []).append(found)

    def changed(self, site: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a site's result with what is added, for what the base made of x.

        Args:
            site: Where.
            x: (1, rows, in).
            y: (1, rows, out); nobody else's, since it may be changed.
        """
        found = self._at.get(site)
        if not found:
            return y
        given, made = x[0], y[0]
        for each in found:
            made = each.onto(given, made)
        return made.unsqueeze(0)


@dataclass
class _Stack:
    """The numbers of rows that have adapters of one description, packed without gaps."""

    rows: list[int] = field(default_factory=list)
    held: list[Resident] = field(default_factory=list)  # whose numbers stand at each place
    numbers: torch.Tensor | None = None  # (places, numbers)

    def fill(self, wanted: Mapping[int, Resident]) -> torch.Tensor:
        """Have the numbers of the wanted rows, moving as few as possible; return them."""
        for place in reversed(range(len(self.rows))):
            if wanted.get(self.rows[place]) is not self.held[place]:
                self._close(place)
        known = set(self.rows)
        for row, resident in wanted.items():
            if row not in known:
                self._append(row, resident)
        assert self.numbers is not None, "some row is wanted"
        return self.numbers[: len(self.rows)]

    def _append(self, row: int, resident: Resident) -> None:
        place = len(self.rows)
        if self.numbers is None or place == len(self.numbers):
            grown = resident.numbers.new_empty(max(4, 2 * place), resident.numbers.shape[1])
            if self.numbers is not None:
                grown[:place] = self.numbers
            self.numbers = grown
        self.numbers[place] = resident.numbers[0]
        self.rows.append(row)
        self.held.append(resident)

    def _close(self, place: int) -> None:
        """Take a place away; the last one moves there."""
        row, resident = self.rows.pop(), self.held.pop()
        if place < len(self.rows):
            assert self.numbers is not None, "places have numbers"
            self.numbers[place] = self.numbers[len(self.rows)]
            self.rows[place], self.held[place] = row, resident


class Stacks:
    """What is added for the rows that take steps together, kept from step to step."""

    def __init__(self, sites: Mapping[str, nn.Module], device: torch.device | str) -> None:
        self._sites, self._device = sites, device
        self._stacks: dict[Description, _Stack] = {}
        self._known: tuple[int, dict[int, Resident]] | None = None
        self._added = Added(sites)

    def added(self, n_rows: int, wanted: dict[int, Resident]) -> Added:
        """Return what is added for rows 0 to `n_rows`, of which some have adapters."""
        if self._known == (n_rows, wanted):
            return self._added
        self._known, self._added = (n_rows, wanted), Added(self._sites)
        groups: dict[Description, dict[int, Resident]] = {}
        for row, resident in wanted.items():
            if resident.shapes:
                groups.setdefault(resident.shapes, {})[row] = resident
        self._stacks = {each: stack for each, stack in self._stacks.items() if each in groups}
        for shapes, members in groups.items():
            if len(set(members.values())) == 1:
                self._stacks.pop(shapes, None)
                numbers, rows = next(iter(members.values())).numbers, list(members)
            else:
                stack = self._stacks.setdefault(shapes, _Stack())
                numbers, rows = stack.fill(members), stack.rows
            index = None if rows == list(range(n_rows)) else torch.tensor(rows).to(self._device)
            self._added.put(shapes, numbers, index, False)
        return self._added


def of_stretches(
    sites: Mapping[str, nn.Module],
    stretches: Sequence[tuple[int, Resident | None]],
    device: torch.device | str,
) -> Added:
    """Return what is added for a row of tokens that is made of stretches, each of one adapter.

    Args:
        sites: By their names in the base.
        stretches: Lengths and adapters, in order.
        device: The model's.
    """
    places: dict[Resident, list[slice]] = {}
    begin = 0
    for length, resident in stretches:
        if resident is not None and resident.shapes:
            places.setdefault(resident, []).append(slice(begin, begin + length))
        begin += length
    added = Added(sites)
    for resident, parts in places.items():
        rows: torch.Tensor | slice | None = parts[0]
        if sum(part.stop - part.start for part in parts) == begin:
            rows = None
        elif len(parts) > 1:
            rows = torch.cat([torch.arange(part.start, part.stop) for part in parts]).to(device)
        added.put(resident.shapes, resident.numbers, rows, True)
    return added
