"""Full fine-tuning: every weight may change. The result is a new model folder, not an adapter."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunefork.core.errors import InternalError
from tunefork.models import Base, saving_tensors

_COPIED = ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.*", "merges.txt")


class Full:
    """The strategy; see the module's docstring."""

    name = "full"
    is_mergeable = False
    is_disableable = False

    def attach(self, model: Any, seed: int) -> None:
        """Let every weight change."""
        model.requires_grad_(True)

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return every weight, tied ones once, by the base's names."""
        return dict(model.named_parameters())

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return nothing: the base is safe because the result is written elsewhere."""
        return {}

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write a complete model folder in the base's own number format."""
        dtype = base.config.get("dtype") or base.config.get("torch_dtype") or "float32"
        with saving_tensors():
            model.save_pretrained(
                folder, state_dict=_cast(model.state_dict(), getattr(torch, dtype))
            )
        for pattern in _COPIED:
            for path in base.folder.glob(pattern):
                shutil.copyfile(path, folder / path.name)

    @contextlib.contextmanager
    def disabled(self, model: Any) -> Iterator[None]:
        """Refuse: the base has to be loaded beside it."""
        raise InternalError("a fully tuned model has no base left in it")
        yield

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        return {"name": self.name}


def _cast(state: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
