"""Many adapters, of any strategies, on one base that is loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunefork.strategies.load import load_adapter
from tunefork.strategies.protocol import Adapter


class Bank:
    """The adapters of one model, by number; 0 is the base alone.

    A segment of a row names the adapter that computes it. An adapter costs what its own tensors
    take; putting one on, taking one off and exchanging two never touches the base's weights.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._adapters: dict[int, Adapter] = {}
        self._names: dict[int, str] = {}

    @property
    def names(self) -> dict[int, str]:
        """What each number's adapter is called."""
        return dict(self._names)

    def attach(self, adapter: Adapter, seed: int, name: str = "") -> int:
        """Put a new adapter on the model, to be trained, and return its number."""
        number = self._free_number()
        adapter.attach(self.model, seed, number)
        return self._note(number, adapter, name or adapter.name)

    def add(self, folder: Path, name: str = "") -> int:
        """Put a saved adapter on the model, and return its number.

        Raises:
            ModelError: It is damaged, of no method that we know, or made for another base.
        """
        number = self._free_number()
        return self._note(number, load_adapter(self.model, folder, number), name or folder.name)

    def remove(self, number: int) -> Adapter:
        """Take an adapter off the model, and return it; its number is free again."""
        adapter = self._adapters.pop(number)
        del self._names[number]
        adapter.take(self.model)
        return adapter

    def swap(self, one: int, other: int) -> None:
        """Exchange two adapters' numbers. The first is computed where nobody says which."""
        pair = {one: other, other: one}
        taken = {new: self._adapters[old] for old, new in pair.items()}
        for adapter in taken.values():
            adapter.take(self.model)
        for number, adapter in taken.items():
            adapter.put(self.model, number)
        self._adapters |= taken
        self._names |= {new: self._names[old] for old, new in pair.items()}

    def __getitem__(self, number: int) -> Adapter:
        """Return the adapter of a number."""
        return self._adapters[number]

    def __len__(self) -> int:
        """Return how many adapters there are, the base not counted."""
        return len(self._adapters)

    def _free_number(self) -> int:
        return next(n for n in range(1, len(self._adapters) + 2) if n not in self._adapters)

    def _note(self, number: int, adapter: Adapter, name: str) -> int:
        self._adapters[number], self._names[number] = adapter, name
        return number
