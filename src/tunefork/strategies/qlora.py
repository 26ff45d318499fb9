"""QLoRA: LoRA beside a base that is kept in four bits (Dettmers et al. 2023, arXiv 2305.14314).

The change, its settings and its folder are LoRA's: only the base is loaded in another way, and the
same way again wherever the adapter is used, since it was trained to make up for the rounding.
"""

from __future__ import annotations

from typing import Any

from tunefork.core.errors import InternalError
from tunefork.models.quantized import quantized_layers
from tunefork.strategies.lora import Lora


class Qlora(Lora):
    """The strategy; see the module's docstring."""

    name = "qlora"

    def attach(self, model: Any, seed: int, number: int = 1) -> None:
        """Put a change of no effect beside each target layer of a base in four bits."""
        if not any(quantized_layers(model)):
            raise InternalError("QLoRA's base was not loaded in four bits")
        super().attach(model, seed, number)
