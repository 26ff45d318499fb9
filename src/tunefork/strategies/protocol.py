"""What a strategy is: one way in which the weights of a model may change."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from tunefork.models import Base


class Strategy(Protocol):
    """Attach to a loaded model, say what to train, save it and load it again.

    What a strategy can do it declares, and one battery of tests holds it to that.
    """

    name: str
    is_mergeable: bool  # its change can be added into the base's own weights
    is_disableable: bool  # the base can be had back without loading it again

    def attach(self, model: Any, seed: int) -> None:
        """Prepare a loaded model for training, with no effect on what it computes."""
        ...

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return what is trained, by names that stay the same from run to run."""
        ...

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors that must not change, by the base's names for them."""
        ...

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write what was trained into an existing folder, in the standard format for it."""
        ...

    def disabled(self, model: Any) -> AbstractContextManager[None]:
        """While open, the model computes what the base computes."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        ...
