"""Adapters in memory for serving: loaded and checked as ever, then kept as bare numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunefork.strategies.effect import probe
from tunefork.strategies.load import load_adapter
from tunefork.strategies.protocol import Adapter
from tunefork.strategies.served import Resident


class Residents:
    """The adapters that can be served on one model, and the places where they add something."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.sites: dict[str, nn.Module] = {}  # by their names in the base
        self._prefixes: dict[int, Adapter] = {}  # those that stay on the model, by number
        self._plain: torch.Tensor | None = None  # what the base computes, to tell an effect by

    def add(self, folder: Path) -> Resident:
        """Load a saved adapter.

        Raises:
            ModelError: It is damaged, of no method that we know, made for another base, or has no
                effect. The model is as it was.
        """
        number = next(n for n in range(1, len(self._prefixes) + 2) if n not in self._prefixes)
        if self._plain is None:
            self._plain = probe(self.model, 0)
        adapter = load_adapter(self.model, folder, number, self._plain)
        places = adapter.hand_over(self.model)
        self.sites |= {name: site for name, (site, _) in places.items()}
        changes = {name: change for name, (_, change) in sorted(places.items())}
        if not changes:
            self._prefixes[number] = adapter
            size = sum(each.nbytes for each in adapter.parameters(self.model).values())
            return Resident(number, (), torch.empty(1, 0), size)
        shapes = tuple(change.shape(name) for name, change in changes.items())
        numbers = torch.cat([change.joined() for change in changes.values()], dim=1)
        return Resident(0, shapes, numbers, numbers.nbytes)

    def remove(self, resident: Resident) -> None:
        """Take an adapter away that no row uses any more."""
        if resident.number:
            self._prefixes.pop(resident.number).take(self.model)
