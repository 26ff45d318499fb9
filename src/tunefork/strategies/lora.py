"""LoRA: a low-rank change beside each linear layer (Hu et al. 2021, arXiv 2106.09685).

y = W x + (alpha / rank) B A x, with W frozen, A (rank, in) random and B (out, rank) zero at the
start; `lora_start` finds a better A. On disk it is PEFT's folder. See `lora_settings` for its
relatives rsLoRA, DoRA and LoRA+.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tunefork.core.errors import ModelError
from tunefork.models import Base
from tunefork.models.quantized import QuantizedLinear, dequantize_layers
from tunefork.strategies.beside import Change
from tunefork.strategies.dora import DoraChange
from tunefork.strategies.folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    other_base,
    read_config,
    read_tensors,
    unusable,
    write_adapter,
)
from tunefork.strategies.lora_layer import LoraLinear, LowRankChange
from tunefork.strategies.lora_settings import LoraSettings, settings_from_peft
from tunefork.strategies.parts import base_name, base_tensors
from tunefork.strategies.targets import check_targets, find_targets, linear_layers

_PREFIX = "base_model.model."
_DOWN, _UP, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class Lora:
    """The strategy; see the module's docstring."""

    name = "lora"
    is_mergeable = True
    is_disableable = True
    is_routable = True
    is_neutral_at_start = True

    def __init__(self, settings: LoraSettings | None = None) -> None:
        self.settings = settings or LoraSettings()
        self.number = 1
        self._taken: dict[str, LowRankChange] = {}  # by the base's name of the layer

    def attach(self, model: Any, seed: int, number: int = 1) -> None:
        """Put a change of no effect beside each target layer.

        Raises:
            ModelError: The base has no layer that a target or a pattern names.
        """
        generator = torch.Generator().manual_seed(seed)
        targets = find_targets(model, self.settings.targets)
        self.settings.check_patterns(targets)
        for name, path in targets.items():
            change = self._change(name, model.get_submodule(path))
            # Kaiming uniform with a = sqrt(5), as the reference implementation starts A.
            bound = 1 / math.sqrt(change.lora_A.shape[1])
            start = torch.empty(change.lora_A.shape).uniform_(-bound, bound, generator=generator)
            change.lora_A.data.copy_(start)
            self._taken[name] = change
        self.put(model, number)

    def put(self, model: Any, number: int) -> None:
        """Put it back, under any number that is free."""
        paths = linear_layers(model)
        head = model.get_output_embeddings()
        for name, change in self._taken.items():
            _wrapped(model, paths[name], head).put(number, change.train(model.training))
        self.number, self._taken = number, {}

    def take(self, model: Any) -> None:
        """Take the adapter off the model; the strategy keeps what is trained."""
        for path, layer in list(_layers(model, self.number)):
            self._taken[base_name(path)] = layer.take(self.number)
            if not layer.of and not layer.is_kept:
                model.set_submodule(path, layer.base_layer)

    def hand_over(self, model: Any) -> dict[str, tuple[nn.Module, Change]]:
        """Return what it adds beside each layer; it is then on the model no more."""
        found: dict[str, tuple[nn.Module, Change]] = {}
        for path, layer in _layers(model, self.number):
            layer.is_kept = True
            found[base_name(path)] = (layer, layer.of[self.number].served(layer.base_layer))
        self.take(model)
        return found

    def changes(self, model: Any) -> dict[str, LowRankChange]:
        """Return what stands beside each layer, by the base's name of the layer."""
        layers = _layers(model, self.number)
        return {base_name(path): layer.of[self.number] for path, layer in layers}

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return A, B and, with DoRA, the magnitude of each layer, under PEFT's names."""
        found: dict[str, nn.Parameter] = {}
        for layer, change in self.changes(model).items():
            name = _PREFIX + layer
            found[name + _DOWN] = change.lora_A
            found[name + _UP] = change.lora_B
            if isinstance(change, DoraChange):
                found[name + _MAGNITUDE] = change.magnitude
        return found

    def rate_factors(self, model: Any) -> dict[str, float]:
        """Return how many times the learning rate each B moves at (LoRA+)."""
        ratio = self.settings.plus_ratio
        names = [] if ratio == 1 else self.parameters(model)
        return {name: ratio for name in names if name.endswith(_UP)}

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors, by the base's names for them."""
        return base_tensors(model)

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write a PEFT adapter folder."""
        layers = dict(_layers(model, self.number))
        # PEFT takes `all-linear` to be more, and would match the output head by its name's end.
        names = self.settings.targets or {path.rsplit(".", 1)[-1] for path in layers}
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.address,
            **self.settings.as_peft(),
            "target_modules": sorted(names),
            "bias": "none",
            "fan_in_fan_out": any(_is_turned(part.base_layer) for part in layers.values()),
            "inference_mode": True,
        }
        write_adapter(folder, config, self.parameters(model))

    @contextlib.contextmanager
    def disabled(self, model: Any) -> Iterator[None]:
        """While open, tokens of this adapter are computed as the base computes them."""
        changes = self.changes(model)
        for change in changes.values():
            change.is_enabled = False
        try:
            yield
        finally:
            for change in changes.values():
                change.is_enabled = True

    def scale(self, model: Any, factor: float) -> None:
        """Make the change larger or smaller as a whole; a saved adapter keeps it so.

        Raises:
            ModelError: It is DoRA, whose magnitudes would stay.
        """
        settings = self.settings
        if settings.dora:
            raise ModelError(
                "a DoRA adapter cannot be scaled",
                hint="direction and magnitude are learned apart; train it again instead",
            )
        patterns = {name: alpha * factor for name, alpha in settings.alpha_pattern.items()}
        update = {"alpha": settings.alpha * factor, "alpha_pattern": patterns}
        self.settings = settings.model_copy(update=update)
        for change in self.changes(model).values():
            change.scale *= factor

    def merge(self, model: Any) -> None:
        """Add each change into a copy-on-write weight and take the wrappers away.

        The sum is made in float32 and rounded once, to the base's number format. A base in four
        bits becomes dense first: the change was trained beside what those stand for.
        """
        dequantize_layers(model)
        for path, layer in list(_layers(model, self.number)):
            change = layer.take(self.number)
            base_layer: Any = layer.base_layer  # linear, or what GPT-2 has for it
            is_turned = _is_turned(base_layer)
            old = base_layer.weight.T if is_turned else base_layer.weight
            new = change.merged(old).to(old.dtype)
            new = new.T.contiguous() if is_turned else new
            base_layer.weight = nn.Parameter(new, requires_grad=False)
            if not layer.of:
                model.set_submodule(path, base_layer)

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        return {"name": self.name, **self.settings.model_dump()}

    @classmethod
    def load(cls, model: Any, folder: Path, number: int = 1) -> Self:
        """Put an adapter that we or PEFT saved on a model, and return its strategy.

        Raises:
            ModelError: It is damaged, of another method, or made for another base.
        """
        config, path = read_config(folder), folder / CONFIG_FILE
        if config["peft_type"] != "LORA":
            raise unusable(path, f"its method is {config['peft_type']}, not LORA")
        strategy = cls(settings_from_peft(config, path))
        tensors, weights_path = read_tensors(folder), folder / WEIGHTS_FILE
        names = _layer_names(tensors, strategy.settings.dora, weights_path)
        check_targets(config.get("target_modules"), names, path)
        paths = linear_layers(model)
        for name in names:
            if name not in paths:
                raise other_base(weights_path, f"it has no linear layer `{name}`")
            change = strategy._change(name, model.get_submodule(paths[name]))
            _fill(change, name, tensors, weights_path)
            strategy._taken[name] = change
        strategy.put(model, number)
        return strategy

    def _change(self, name: str, layer: nn.Module) -> LowRankChange:
        kind = DoraChange if self.settings.dora else LowRankChange
        rank, scale = self.settings.rank_of(name), self.settings.scale_of(name)
        return kind(layer, rank, scale, self.settings.dropout)


def _is_turned(layer: Any) -> bool:
    """Say whether the base keeps a layer's weight as (in, out), as GPT-2 does."""
    return isinstance(layer, Conv1D) or (isinstance(layer, QuantizedLinear) and layer.is_turned)


def _layers(model: Any, number: int) -> Iterator[tuple[str, LoraLinear]]:
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear) and number in module.of:
            yield path, module


def _wrapped(model: Any, path: str, head: Any) -> LoraLinear:
    """Return what stands around the linear layer at a path; where nothing does, put it there."""
    around = model.get_submodule(path.removesuffix(".base_layer"))
    if isinstance(around, LoraLinear):
        return around
    layer = model.get_submodule(path)
    wrapped = LoraLinear(layer, is_head=layer is head)
    model.set_submodule(path, wrapped)
    return wrapped


def _layer_names(tensors: dict[str, torch.Tensor], dora: bool, path: Path) -> list[str]:
    """Return the layers that an adapter changes; it must have all parts of each, and no more."""
    names = sorted({key.split(".lora_")[0] for key in tensors})
    endings = (_DOWN, _UP, _MAGNITUDE) if dora else (_DOWN, _UP)
    if {name + ending for name in names for ending in endings} != set(tensors):
        parts = "a pair of matrices" + (" and a magnitude" if dora else "")
        raise unusable(path, f"it does not hold {parts} for each layer and nothing else")
    return [name.removeprefix(_PREFIX) for name in names]


def _fill(change: LowRankChange, name: str, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copy a layer's saved tensors into its change."""
    wanted = {_DOWN: change.lora_A, _UP: change.lora_B}
    if isinstance(change, DoraChange):
        wanted[_MAGNITUDE] = change.magnitude
    saved = {ending: tensors[_PREFIX + name + ending] for ending in wanted}
    rank, saved_rank = change.lora_A.shape[0], saved[_DOWN].shape[0]
    if saved[_DOWN].ndim == 2 and saved_rank != rank:
        raise unusable(path, f"`{name}` has rank {saved_rank}, and {CONFIG_FILE} says {rank}")
    for ending, parameter in wanted.items():
        if saved[ending].shape != parameter.shape:
            shapes = f"{tuple(saved[ending].shape)} and not {tuple(parameter.shape)}"
            raise other_base(path, f"`{name + ending}` has the shape {shapes}")
        parameter.data.copy_(saved[ending])
