"""What a strategy is: one way in which the weights of a model may change."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from tunefork.models import Base
from tunefork.strategies.beside import Change


class Strategy(Protocol):
    """Attach to a loaded model, say what to train, save it and load it again.

    What a strategy can do it declares, and one battery of tests holds it to that.
    """

    name: str
    is_mergeable: bool  # its change can be added into the base's own weights: see `Mergeable`
    is_disableable: bool  # the base can be had back without loading it again
    is_routable: bool  # it can be chosen for each token of a row: see `Adapter`
    is_neutral_at_start: bool  # attached and not yet trained, it changes nothing

    def attach(self, model: Any, seed: int) -> None:
        """Prepare a loaded model for training."""
        ...

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return what is trained, by names that stay the same from run to run."""
        ...

    def rate_factors(self, model: Any) -> dict[str, float]:
        """Return how many times the learning rate a parameter moves at, by name; 1 if absent."""
        ...

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors that must not change, by the base's names for them."""
        ...

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write what was trained into an existing folder, in the standard format for it."""
        ...

    def disabled(self, model: Any) -> AbstractContextManager[None]:
        """While open, tokens of this strategy are computed as the base computes them."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        ...


class Adapter(Strategy, Protocol):
    """A strategy that stands beside the base, and beside others of its kind.

    A segment of a row names the number of the adapter that computes it. A strategy alone on a
    model has number 1, which is what segments say where nothing else is said.
    """

    number: int  # while it is on a model

    def attach(self, model: Any, seed: int, number: int = 1) -> None:
        """Put a new adapter on a loaded model, under a number that is free."""
        ...

    def take(self, model: Any) -> None:
        """Take the adapter off the model; the strategy keeps what is trained."""
        ...

    def put(self, model: Any, number: int) -> None:
        """Put it back, under any number that is free."""
        ...

    def hand_over(self, model: Any) -> dict[str, tuple[nn.Module, Change]]:
        """Return what it adds at each place, and leave adding it to others (see `residents`).

        It is then on the model no more, but the places stay; they are named as in the base. A
        learned prefix adds nothing, and stays on the model.
        """
        ...

    @classmethod
    def load(cls, model: Any, folder: Path, number: int = 1) -> Self:
        """Put a saved adapter on a loaded model, and return its strategy.

        Raises:
            ModelError: The files are damaged, of another method, or made for another base. The
                model is as it was.
        """
        ...


class Mergeable(Adapter, Protocol):
    """An adapter whose change can be added into the base's own weights."""

    def merge(self, model: Any) -> None:
        """Replace the weights that it changes by their sums, and take the adapter off."""
        ...
