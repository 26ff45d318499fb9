"""What a strategy takes of memory, by arithmetic: nothing is loaded. `docs/plan.md` derives it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tunefork.models.base import Base
from tunefork.models.memory import (
    SHORT_ROW,
    Shape,
    activation_bytes,
    head_bytes,
    layer_input_bytes,
    passing_bytes,
)
from tunefork.workflow.machine import Machine
from tunefork.workflow.settle import build
from tunefork.workflow.strategy_specs import BottleneckSpec, ChosenSpec, PrefixSpec

if TYPE_CHECKING:  # it imports torch
    from tunefork.strategies import Adapter

_NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # with double quantization, blocks of 64 and 256
# Blocks of ever other sizes come and go, and the allocator cannot use every gap between them; rows
# are padded to the longest of their group. Fitted with the next over 14 trainings (`docs/plan.md`).
_WASTE = 0.06
# The gaps that glibc's allocator leaves: in bf16, MB for the 0.6th power of the MB that come and
# go; in float32, a share of them.
_GLIBC_WASTE, _GLIBC_POWER, _GLIBC_SHARE = 5.5, 0.6, 0.15
# Libraries that are read once training begins, and kernels that bf16 compiles for each size.
_CODE_BYTES, _FLOAT32_CODE_BYTES = 105_000_000, 30_000_000
_QUANTIZED_CODE_BYTES = 47_000_000  # those of four-bit numbers, on top
_CONTEXT_BYTES = 600_000_000  # what CUDA takes for itself and its kernels
_HEADER_BYTES_PER_TENSOR = 90  # name, format, shape and place in a safetensors file
_SHORT = ("bfloat16", "float16")


@dataclass(frozen=True)
class Memory:
    """Peak memory of training, in bytes, by what takes it."""

    weights: int
    gradients: int
    optimizer: int  # float32 masters and two moments
    activations: int  # of one packed row, and the gaps between them
    head: int  # logits, and the states they are made of
    code: int  # libraries
    loading: int = 0  # while the base is loaded, before all of the above

    @property
    def total(self) -> int:
        """The most that is held at once."""
        parts: dict[str, int] = asdict(self)
        return max(parts.pop("loading"), sum(parts.values()))


@dataclass(frozen=True)
class Trainable:
    """What a strategy trains."""

    parameters: int
    tensors: int
    saved_bytes: int


class Body:
    """The layers of a base, without their weights."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.shape = Shape.of(base.config)

    @cached_property
    def model(self) -> Any:
        """The base on the meta device."""
        from tunefork.models.skeleton import skeleton

        return skeleton(self.base)

    @cached_property
    def n_parameters(self) -> int:
        """Of the whole base, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def n_quantizable(self) -> int:
        """Those that `qlora` keeps in four bits."""
        from tunefork.models.quantized import quantizable

        return sum(layer.weight.numel() for _, layer in quantizable(self.model))

    def trainable(self, settled: ChosenSpec) -> Trainable:
        """Return what a strategy would train, and how large its file would be.

        Raises:
            ModelError: The base has no layers of the names that the settings give.
        """
        if settled.name == "full":
            n_bytes = 2 if self.base.config.get("dtype", "float32") in _SHORT else 4
            n_tensors = len(list(self.model.parameters()))
            return Trainable(self.n_parameters, n_tensors, self.n_parameters * n_bytes)
        if isinstance(settled, PrefixSpec):
            return self._prefix(settled)
        # A change beside four-bit layers is made as beside others.
        plain = {"name": "lora"} if settled.name == "qlora" else {}
        adapter = cast("Adapter", build(settled.model_copy(update=plain)))
        adapter.attach(self.model, 0)
        try:
            sizes = [parameter.numel() for parameter in adapter.parameters(self.model).values()]
        finally:
            adapter.take(self.model)
        return _saved_as_trained(sum(sizes), len(sizes))

    def _prefix(self, settled: PrefixSpec) -> Trainable:
        """Count without reading a text, which needs weights."""
        assert isinstance(settled.tokens, int), "settled"
        per_token = 2 * self.shape.key * self.shape.layers
        saved = settled.tokens * per_token
        if settled.projection is None:
            return _saved_as_trained(saved, 1)
        width = settled.projection
        made = settled.tokens * width + width * (width + 1) + per_token * (width + 1)
        return Trainable(made, 5, saved * 4 + _HEADER_BYTES_PER_TENSOR)


def _saved_as_trained(n_parameters: int, n_tensors: int) -> Trainable:
    saved_bytes = 4 * n_parameters + _HEADER_BYTES_PER_TENSOR * n_tensors
    return Trainable(n_parameters, n_tensors, saved_bytes)


def estimate(
    body: Body,
    settled: ChosenSpec,
    trainable: Trainable,
    machine: Machine,
    packed: Sequence[Sequence[int]],
    *,
    recompute: bool,
) -> Memory:
    """Return the peak memory of training.

    Args:
        body: What is tuned.
        settled: How.
        trainable: What `Body.trainable` says of it.
        machine: What it runs on.
        packed: Packed rows, the one that takes the most among them: tokens of each document.
        recompute: Whether layers are computed again in the backward pass.
    """
    width, is_full = machine.bytes_per_number, settled.name == "full"
    kept = max(_kept_bytes(body.shape, settled, width, row, recompute) for row in packed)
    activations = round(kept * (1 + _WASTE))
    n_tokens = max(sum(row) for row in packed)
    head = head_bytes(body.shape, n_tokens, width, trains=is_full)
    n_trained, has_masters = trainable.parameters, is_full and width < 4
    gradients = 4 * n_trained
    passing = activations + head  # what comes and goes
    if has_masters:  # gradients in the number format grow as activations go
        gradients += max(0, width * n_trained - passing)
        passing += width * n_trained
    if machine.wastes_memory:
        activations += _gaps(passing, width)
    in_weights = 4 if is_full and not has_masters else 0  # trained weights that are base weights
    weights, code = _weight_bytes(body, settled, width), _code_bytes(settled, machine)
    # Four bits are made from the file's own pages, on the processor in any case.
    from_file = body.base.weight_bytes if settled.name == "qlora" and machine.device == "cpu" else 0
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=(12 - in_weights) * n_trained,
        activations=activations,
        head=head,
        code=code,
        loading=weights + code + from_file,
    )


def _gaps(passing: int, width: int) -> int:
    """Return what glibc's allocator cannot use again of the bytes that come and go."""
    if width == 4:
        return round(_GLIBC_SHARE * passing)
    return round(_GLIBC_WASTE * 1e6 * math.pow(passing / 1e6, _GLIBC_POWER))


def _kept_bytes(
    shape: Shape, settled: ChosenSpec, width: int, row: Sequence[int], recompute: bool
) -> int:
    """Return what a packed row holds in the backward pass, outside of the head."""
    kept = activation_bytes(
        shape,
        row,
        width,
        n_learned=int(settled.tokens) if isinstance(settled, PrefixSpec) else 0,
        keeps_inputs=settled.name in ("full", "lora", "qlora"),
        n_beside=_beside(settled, shape),
    )
    n_tokens = sum(row)
    if recompute:
        kept = layer_input_bytes(shape, n_tokens, width) + kept // shape.layers
    return kept + passing_bytes(shape, n_tokens, width)


def _beside(settled: ChosenSpec, shape: Shape) -> int:
    """Return the numbers that bottleneck adapters in a layer keep of each token."""
    if not isinstance(settled, BottleneckSpec):
        return 0
    n_adapters = 2 if settled.placement == "houlsby" else 1
    return n_adapters * (shape.hidden + int(settled.size))


def _weight_bytes(body: Body, settled: ChosenSpec, width: int) -> int:
    if settled.name != "qlora":
        return body.n_parameters * width
    packed = round(body.n_quantizable * _NF4_BITS / 8)
    return packed + (body.n_parameters - body.n_quantizable) * width


def _code_bytes(settled: ChosenSpec, machine: Machine) -> int:
    if machine.device == "cuda":
        return _CONTEXT_BYTES
    code = _CODE_BYTES if machine.bytes_per_number < 4 else _FLOAT32_CODE_BYTES
    return code + (_QUANTIZED_CODE_BYTES if settled.name == "qlora" else 0)


def heaviest_rows(lengths: NDArray[np.int64], micro_tokens: int) -> list[list[int]]:
    """Return packed rows of which one takes the most memory, by the lengths of all documents.

    Of the longest documents, and of the longest short ones, which keep their attention weights.
    """
    found = [_fullest(lengths, micro_tokens)]
    short = lengths[lengths <= SHORT_ROW]
    return [*found, _fullest(short, micro_tokens)] if len(short) else found


def _fullest(lengths: NDArray[np.int64], micro_tokens: int) -> list[int]:
    ordered = np.sort(lengths)[::-1]
    count = int(np.searchsorted(np.cumsum(ordered), micro_tokens, side="right"))
    row: list[int] = ordered[: max(1, count)].tolist()
    return row
