"""Bottleneck adapters: a small network behind each sub-layer (Houlsby et al. 2019, 1902.00751).

h becomes h + up act(down h), where h is what a sub-layer adds to the residual stream; up is zero at
the start. `houlsby` puts one behind attention and one behind the feed-forward part of each layer,
`pfeiffer` only the second (Pfeiffer et al. 2020, arXiv 2005.00247). Where a layer computes both
parts from one input, as in Phi and GPT-NeoX, each adapter changes what its own part adds; where a
norm follows a part, as in Gemma 2, the adapter stands before it. There is no standard format on
disk: the folder is shaped like PEFT's, under the method name BOTTLENECK.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from tunefork.core.errors import ModelError
from tunefork.models import Base
from tunefork.models.blocks import decoder_layers
from tunefork.strategies.activations import Activation
from tunefork.strategies.beside import Change
from tunefork.strategies.bottleneck_layer import (
    BottleneckAdapter,
    keep_behind,
    put_behind,
    take_away,
)
from tunefork.strategies.folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    other_base,
    read_config,
    read_tensors,
    unusable,
    write_adapter,
)
from tunefork.strategies.parts import base_tensors

Placement = Literal["houlsby", "pfeiffer"]
_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_FEED_FORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe")
_PARTS = ("down", "down_bias", "up", "up_bias")
_SHARE = 8  # of the hidden size


class BottleneckSettings(BaseModel):
    """How wide the adapters are, and where they stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int | None = Field(default=None, ge=1, le=65536)  # None: an eighth of the hidden size
    placement: Placement = "houlsby"
    activation: Activation = "gelu"


class Bottleneck:
    """The strategy; see the module's docstring."""

    name = "bottleneck"
    is_mergeable = False
    is_disableable = True
    is_routable = True
    is_neutral_at_start = True

    def __init__(self, settings: BottleneckSettings | None = None) -> None:
        self.settings = settings or BottleneckSettings()
        self.number = 0
        self._adapters: dict[str, BottleneckAdapter] = {}  # by the name of the sub-layer

    def attach(self, model: Any, seed: int, number: int = 1) -> None:
        """Put an adapter of no effect behind each sub-layer.

        Raises:
            ModelError: The model's layers are of a make in which these are not found.
        """
        hidden = int(model.config.hidden_size)
        size = self.settings.size or max(1, hidden // _SHARE)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(hidden)  # as LoRA starts its projection down
        self._adapters = {}
        for name in find_sublayers(model, self.settings.placement):
            down = torch.empty(size, hidden).uniform_(-bound, bound, generator=generator)
            adapter = BottleneckAdapter(down.to(model.device), self.settings.activation)
            self._adapters[name] = adapter
        self.put(model, number)

    def put(self, model: Any, number: int) -> None:
        """Let the adapters change what the sub-layers give for the tokens of a number."""
        for name, adapter in self._adapters.items():
            put_behind(model.get_submodule(name), number, adapter)
        self.number = number

    def take(self, model: Any) -> None:
        """Take the adapters away; they are kept."""
        for name in self._adapters:
            take_away(model.get_submodule(name), self.number)

    def hand_over(self, model: Any) -> dict[str, tuple[nn.Module, Change]]:
        """Return what it adds behind each sub-layer; it is then on the model no more."""
        places = {name: keep_behind(model.get_submodule(name)) for name in self._adapters}
        self.take(model)
        return {name: (places[name], adapter.change()) for name, adapter in self._adapters.items()}

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return the four tensors of each adapter, by sub-layer."""
        return {
            f"{name}.{part}": parameter
            for name, adapter in self._adapters.items()
            for part, parameter in adapter.named_parameters()
        }

    def rate_factors(self, model: Any) -> dict[str, float]:
        """Return nothing: all move at one learning rate."""
        return {}

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors, by the base's names for them."""
        return base_tensors(model)

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write an adapter folder."""
        config = {
            "peft_type": "BOTTLENECK",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.address,
            "placement": self.settings.placement,
            "activation": self.settings.activation,
            "inference_mode": True,
        }
        write_adapter(folder, config, self.parameters(model))

    @contextlib.contextmanager
    def disabled(self, model: Any) -> Iterator[None]:
        """While open, the sub-layers give what they give in the base."""
        for adapter in self._adapters.values():
            adapter.is_enabled = False
        try:
            yield
        finally:
            for adapter in self._adapters.values():
                adapter.is_enabled = True

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        return {"name": self.name, **self.settings.model_dump()}

    @classmethod
    def load(cls, model: Any, folder: Path, number: int = 1) -> Bottleneck:
        """Put saved adapters on a model, and return their strategy.

        Raises:
            ModelError: They are damaged, of another method, or made for another base.
        """
        config, tensors = read_config(folder), read_tensors(folder)
        strategy = cls(_read_settings(config, tensors, folder))
        names = find_sublayers(model, strategy.settings.placement)
        if {f"{name}.{part}" for name in names for part in _PARTS} != set(tensors):
            raise other_base(folder / WEIGHTS_FILE, "it does not have the same sub-layers")
        for name in names:
            adapter = strategy._adapters[name] = BottleneckAdapter(
                tensors[f"{name}.down"].float().to(model.device), strategy.settings.activation
            )
            for part, parameter in adapter.named_parameters():
                saved = tensors[f"{name}.{part}"]
                fits = adapter.down.shape[1] == model.config.hidden_size
                if not fits or saved.shape != parameter.shape:
                    raise other_base(folder / WEIGHTS_FILE, f"its `{name}.{part}` does not fit")
                parameter.data.copy_(saved)
        strategy.put(model, number)
        return strategy


def find_sublayers(model: Any, placement: Placement) -> list[str]:
    """Return the names of the sub-layers that adapters stand behind, in their order.

    Raises:
        ModelError: Some layer has no such part, or under a name that is not known.
    """
    wanted = (_ATTENTION, _FEED_FORWARD) if placement == "houlsby" else (_FEED_FORWARD,)
    found = []
    for path, layer in decoder_layers(model):
        children = dict(layer.named_children())
        for names in wanted:
            known = [name for name in names if name in children]
            if len(known) != 1:
                raise ModelError(
                    f"the base has no part of a known name behind which an adapter could stand: "
                    f"`{path}` consists of {', '.join(children)}",
                    hint="use `strategy: lora`",
                )
            found.append(f"{path}.{known[0]}")
    return found


def _read_settings(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path
) -> BottleneckSettings:
    matrices = [tensor for name, tensor in tensors.items() if name.endswith(".down")]
    sizes = {len(tensor) for tensor in matrices if tensor.ndim == 2}
    if len(sizes) != 1 or any(tensor.ndim != 2 for tensor in matrices):
        raise unusable(folder / WEIGHTS_FILE, "it does not hold projections of one size")
    try:
        return BottleneckSettings(
            size=sizes.pop(), placement=config.get("placement"), activation=config.get("activation")
        )
    except ValidationError as error:
        known = f"`placement` is {' or '.join(get_args(Placement))}"
        reason = f"{known}, `activation` {' or '.join(get_args(Activation))}"
        raise unusable(folder / CONFIG_FILE, reason) from error
