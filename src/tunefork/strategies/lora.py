"""LoRA: a low-rank change beside each linear layer (Hu et al. 2021, arXiv 2106.09685).

y = W x + (alpha / rank) B A x, with W frozen, A (rank, in) random and B (out, rank) zero at the
start. On disk it is PEFT's folder: `adapter_config.json` and `adapter_model.safetensors`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from tunefork.core.errors import ModelError
from tunefork.core.files import write_json
from tunefork.models import Base, saving_tensors
from tunefork.strategies.low_rank import LowRank, low_rank_linear

_PREFIX = "base_model.model."
_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"


class LoraSettings(BaseModel):
    """How large the change may be, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=32.0, gt=0)  # twice the rank: the published experiments' choice
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = None  # last parts of module names; None is all linear layers


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank change beside it.

    The change is kept and trained in float32 and computed in the layer's own number format.
    """

    def __init__(self, base_layer: nn.Linear | Conv1D, rank: int, scale: float, dropout: float):
        super().__init__()
        self.base_layer = base_layer
        n_in, n_out = _sizes(base_layer)
        device = base_layer.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, n_in, device=device))
        self.lora_B = nn.Parameter(torch.zeros(n_out, rank, device=device))
        self.scale = scale
        self.dropout = dropout
        self.is_enabled = True

    @property
    def weight(self) -> torch.Tensor:
        """The frozen weight, for models that ask a layer for it."""
        return self.base_layer.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen bias."""
        return self.base_layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        if not self.is_enabled:
            y: torch.Tensor = self.base_layer(x)
            return y
        dropped = functional.dropout(x, self.dropout, self.training)
        return low_rank_linear(x, dropped, [self._parts()])[0]

    @staticmethod
    def apply_together(layers: Sequence[LoraLinear], x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (..., in) to one (..., out) per layer, in one step where that is the same."""
        drops = any(layer.dropout and layer.training for layer in layers)  # each its own way
        if drops or not all(layer.is_enabled for layer in layers):
            return tuple(layer(x) for layer in layers)
        return low_rank_linear(x, x, [layer._parts() for layer in layers])

    def _parts(self) -> LowRank:
        weight = self.base_layer.weight
        return LowRank(
            weight=weight.T if isinstance(self.base_layer, Conv1D) else weight,
            bias=self.base_layer.bias,
            down=self.lora_A,
            up=self.lora_B,
            scale=self.scale,
        )


class Lora:
    """The strategy; see the module's docstring."""

    name = "lora"
    is_mergeable = True
    is_disableable = True

    def __init__(self, settings: LoraSettings | None = None) -> None:
        self.settings = settings or LoraSettings()

    def attach(self, model: Any, seed: int) -> None:
        """Put a change of no effect beside each target layer."""
        targets = _find_targets(model, self.settings.targets)
        generator = torch.Generator().manual_seed(seed)
        scale = self.settings.alpha / self.settings.rank
        for name, layer in targets.items():
            lora = LoraLinear(layer, self.settings.rank, scale, self.settings.dropout)
            # Kaiming uniform with a = sqrt(5), as the reference implementation starts A.
            bound = 1 / math.sqrt(lora.lora_A.shape[1])
            start = torch.empty(lora.lora_A.shape).uniform_(-bound, bound, generator=generator)
            lora.lora_A.data.copy_(start)
            model.set_submodule(name, lora)

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return A and B of each layer, under PEFT's names."""
        found = {}
        for name, layer in _lora_layers(model):
            found[f"{_PREFIX}{name}.lora_A.weight"] = layer.lora_A
            found[f"{_PREFIX}{name}.lora_B.weight"] = layer.lora_B
        return found

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors, by the base's names for them."""
        trained = {id(parameter) for parameter in self.parameters(model).values()}
        return {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in model.named_parameters()
            if id(tensor) not in trained
        }

    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write a PEFT adapter folder."""
        tensors = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in self.parameters(model).items()
        }
        with saving_tensors():
            save_file(tensors, folder / _WEIGHTS_FILE, metadata={"format": "pt"})
        names = sorted({name.rsplit(".", 1)[-1] for name, _ in _lora_layers(model)})
        is_conv = any(isinstance(layer.base_layer, Conv1D) for _, layer in _lora_layers(model))
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.address,
            "r": self.settings.rank,
            "lora_alpha": self.settings.alpha,
            "lora_dropout": self.settings.dropout,
            "target_modules": names,
            "bias": "none",
            "fan_in_fan_out": is_conv,
            "inference_mode": True,
        }
        # PEFT matches `target_modules` by the end of a name, which would take the output head in.
        write_json(folder / _CONFIG_FILE, config)

    @contextlib.contextmanager
    def disabled(self, model: Any) -> Iterator[None]:
        """While open, the model computes what the base computes."""
        layers = [layer for _, layer in _lora_layers(model)]
        for layer in layers:
            layer.is_enabled = False
        try:
            yield
        finally:
            for layer in layers:
                layer.is_enabled = True

    def merge(self, model: Any) -> None:
        """Add each change into a copy-on-write weight and take the wrappers away.

        The sum is made in float32 and rounded once, to the base's number format.
        """
        for name, layer in list(_lora_layers(model)):
            change = layer.scale * (layer.lora_B.detach() @ layer.lora_A.detach())
            base_layer = layer.base_layer
            if isinstance(base_layer, Conv1D):
                change = change.T
            merged = base_layer.weight.detach().float() + change
            base_layer.weight = nn.Parameter(
                merged.to(base_layer.weight.dtype), requires_grad=False
            )
            model.set_submodule(name, base_layer)

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        return {"name": self.name, **self.settings.model_dump()}

    @classmethod
    def load(cls, model: Any, folder: Path) -> Lora:
        """Attach an adapter that we or PEFT saved, and return its strategy.

        Raises:
            ModelError: It is damaged, of another method, or made for another base.
        """
        config, tensors = _read_adapter(folder)
        ranks = {tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name}
        if len(ranks) != 1:
            raise ModelError(
                f"layers of different rank are not supported yet: {sorted(ranks)}",
                where=folder / _WEIGHTS_FILE,
                hint="train it again with one rank for all layers",
            )
        settings = _read_settings(config, ranks.pop(), folder / _CONFIG_FILE)
        strategy = cls(settings)
        _attach_saved(model, tensors, settings.alpha / settings.rank, settings.dropout, folder)
        return strategy


def _attach_saved(
    model: Any, tensors: dict[str, torch.Tensor], scale: float, dropout: float, folder: Path
) -> None:
    layers = _find_targets(model, None, with_head=True)
    for name in sorted({key.split(".lora_")[0] for key in tensors}):
        path = name.removeprefix(_PREFIX)
        down, up = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
        layer = layers.get(path)
        if layer is None or (down.shape[1], up.shape[0]) != _sizes(layer):
            raise ModelError(
                f"the adapter was made for another base: its layer `{path}` does not fit",
                where=folder / _WEIGHTS_FILE,
                hint="use the base that its adapter_config.json names",
            )
        lora = LoraLinear(layer, down.shape[0], scale, dropout)
        lora.lora_A.data.copy_(down)
        lora.lora_B.data.copy_(up)
        model.set_submodule(path, lora)


def _read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config_path, weights_path = folder / _CONFIG_FILE, folder / _WEIGHTS_FILE
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(config_path, str(error)) from error
    if not isinstance(config, dict):
        raise _unusable(config_path, "it holds no JSON object")
    try:
        tensors = load_file(weights_path)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unusable(weights_path, str(error)) from error
    known = config.get("peft_type") == "LORA" and all(".lora_" in name for name in tensors)
    unsupported = [key for key in ("use_dora", "alpha_pattern", "use_qalora") if config.get(key)]
    if not known or unsupported:
        what = ", ".join(unsupported) or f"method {config.get('peft_type')}"
        raise ModelError(
            f"this adapter uses {what}, which is not supported yet",
            where=config_path,
            hint="use a plain LoRA adapter, or merge this one into its base with the tool it is of",
        )
    layers = {name.split(".lora_")[0] for name in tensors}
    parts = {f"{layer}.lora_{part}.weight" for layer in layers for part in "AB"}
    if not tensors or parts != set(tensors) or any(t.ndim != 2 for t in tensors.values()):
        raise _unusable(weights_path, "it does not hold one pair of matrices for each layer")
    return config, tensors


def _read_settings(config: dict[str, Any], rank: int, path: Path) -> LoraSettings:
    try:
        alpha, dropout = float(config["lora_alpha"]), float(config.get("lora_dropout") or 0.0)
        if config.get("use_rslora"):  # scale alpha / sqrt(rank), arXiv 2312.03732
            alpha *= math.sqrt(rank)
        return LoraSettings(rank=rank, alpha=alpha, dropout=dropout)
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(path, f"`lora_alpha` or `lora_dropout` is no usable number: {error}") from (
            error
        )


def _unusable(path: Path, reason: str) -> ModelError:
    hint = "bring the file back as it was saved, or tune again"
    return ModelError(f"not a usable adapter: {reason}", where=path, hint=hint)


def _lora_layers(model: Any) -> Iterator[tuple[str, LoraLinear]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def _sizes(layer: nn.Linear | Conv1D) -> tuple[int, int]:
    """Return (in, out); GPT-2's Conv1D keeps its weight transposed."""
    n_rows, n_columns = layer.weight.shape
    return (n_rows, n_columns) if isinstance(layer, Conv1D) else (n_columns, n_rows)


def _find_targets(
    model: Any, targets: tuple[str, ...] | None, *, with_head: bool = False
) -> dict[str, nn.Linear | Conv1D]:
    """Return the layers to change: all linear ones but the output head, or those named."""
    head = None if with_head else model.get_output_embeddings()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    if targets is None:
        return layers
    chosen = {name: layer for name, layer in layers.items() if name.rsplit(".", 1)[-1] in targets}
    missing = set(targets) - {name.rsplit(".", 1)[-1] for name in chosen}
    if missing:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise ModelError(
            f"the base has no linear layer called {', '.join(f'`{name}`' for name in missing)}",
            hint=f"its linear layers are {', '.join(known)}",
        )
    return chosen
