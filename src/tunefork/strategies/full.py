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
from tunefork.core.files import read_json, write_json
from tunefork.models import Base, saving_tensors, stored_dtype

_COPIED = ("tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.*", "merges.txt")


class Full:
    """The strategy; see the module's docstring."""

    name = "full"
    is_mergeable = False
    is_disableable = False
    is_routable = False
    is_neutral_at_start = True

    def attach(self, model: Any, seed: int) -> None:
        """Let every weight change."""
        model.requires_grad_(True)

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return every weight, tied ones once, by the base's names."""
        return dict(model.named_parameters())

    def rate_factors(self, model: Any) -> dict[str, float]:
        """Return nothing: every weight moves at the same rate."""
        return {}

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return nothing: the base is safe because the result is written elsewhere."""
        return {}

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write a complete model folder in the base's own number format."""
        dtype = stored_dtype(base)
        with saving_tensors():
            model.save_pretrained(folder, state_dict=_cast(model.state_dict(), dtype))
        # transformers notes the format that was computed in.
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", {**config, "dtype": str(dtype).removeprefix("torch.")})
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
    """Cast each tensor once, so that tied ones stay one."""
    found: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for tensor in state.values():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in found:
            found[key] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return {name: found[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}
