"""Linear layers kept in four bits: NF4 with double quantization (Dettmers et al. 2023).

QLoRA, arXiv 2305.14314, section 3: weights in blocks of 64, each number one of 16 quantiles of the
normal distribution times its block's largest absolute value; those, less their mean, in blocks of
256 in eight bits. 4.13 bits for a weight. They are only kept so: each product makes the dense
weight anew, in the number format of its input, and forgets it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from tunefork.core.errors import ModelError
from tunefork.models.blocks import decoder_layers

Quantization = Literal["nf4"]

_BLOCK, _NESTED_BLOCK = 64, 256
_BLOCKS_AT_ONCE = 1024  # so that what is computed with stays in the cache
_STORAGE = torch.bfloat16  # what packed numbers are kept as, so that they are sharded as weights
_PER_STORED = 4  # four-bit numbers in one of them


class QuantizedWeight(NamedTuple):
    """A weight (out, in) in four bits."""

    packed: torch.Tensor  # (out, in / 4), bf16 in name only
    absmax: torch.Tensor  # (out * in / 64,), uint8: each block's largest absolute value
    nested_absmax: torch.Tensor  # (out * in / 64 / 256,) rounded up, float32: the largest of those
    offset: torch.Tensor  # (), float32: the mean taken from them

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weight that this stands for: (out, in)."""
        kernels = _bitsandbytes()
        nested = kernels.QuantState(
            absmax=self.nested_absmax,
            blocksize=_NESTED_BLOCK,
            code=_nested_code(self.absmax.device),
            dtype=torch.float32,
        )
        state = kernels.QuantState(
            absmax=self.absmax,
            # As so many rows of one block: the kernel for CPUs lets no block cross rows.
            shape=torch.Size((len(self.absmax), _BLOCK)),
            dtype=dtype,
            blocksize=_BLOCK,
            quant_type="nf4",
            offset=self.offset,
            state2=nested,
        )
        dense: torch.Tensor = kernels.dequantize_4bit(self.packed.reshape(-1, 1), state)
        return dense.view(self.shape)

    @property
    def shape(self) -> torch.Size:
        """The dense weight's shape."""
        n_out, n_stored = self.packed.shape
        return torch.Size((n_out, n_stored * _PER_STORED))


FrozenWeight = torch.Tensor | QuantizedWeight


def dense(weight: FrozenWeight, dtype: torch.dtype) -> torch.Tensor:
    """Return a weight as one tensor (out, in); a dense one as it is."""
    return weight if isinstance(weight, torch.Tensor) else weight.dense(dtype)


def parts_of(weight: FrozenWeight) -> tuple[torch.Tensor, ...]:
    """Return the tensors that a weight is kept in."""
    return (weight,) if isinstance(weight, torch.Tensor) else tuple(weight)


def joined(parts: Sequence[torch.Tensor]) -> FrozenWeight:
    """Return the weight of which these are the parts."""
    return parts[0] if len(parts) == 1 else QuantizedWeight(*parts)


def quantize(weight: torch.Tensor) -> QuantizedWeight:
    """Return a weight (out, in) in four bits, on its own device.

    It is rounded to bf16 first, so that the result does not depend on the number format that the
    base happened to be loaded in.
    """
    blocks = weight.detach().to(_STORAGE).reshape(-1, _BLOCK)
    absmax = blocks.abs().amax(1).float()
    parts = zip(*(torch.split(part, _BLOCKS_AT_ONCE) for part in (blocks, absmax)), strict=True)
    codes = torch.cat([_nearest(*part) for part in parts])
    packed = (codes[:, ::2] << 4 | codes[:, 1::2]).view(_STORAGE).view(len(weight), -1)
    offset = absmax.mean()
    nested, state = _bitsandbytes().quantize_blockwise(absmax - offset, blocksize=_NESTED_BLOCK)
    return QuantizedWeight(packed, nested, state.absmax, offset)


def _nearest(blocks: torch.Tensor, absmax: torch.Tensor) -> torch.Tensor:
    """Return for each number which of the sixteen is the nearest: (blocks, 64), uint8.

    By counting the bounds below it: on a CPU several times as fast as a search among them.
    """
    scaled = blocks.float() * (1 / absmax.clamp_min(1e-38))[:, None]
    codes = torch.zeros(blocks.shape, dtype=torch.uint8, device=blocks.device)
    for bound in _bounds():
        codes += scaled > bound
    return codes


class QuantizedLinear(nn.Module):
    """A frozen linear layer in four bits."""

    absmax: torch.Tensor
    nested_absmax: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self, weight: QuantizedWeight, bias: nn.Parameter | None, *, is_turned: bool = False
    ) -> None:
        super().__init__()
        self.is_turned = is_turned  # it stands for GPT-2's Conv1D, which keeps (in, out)
        self.out_features, self.in_features = weight.shape
        self.packed = nn.Parameter(weight.packed, requires_grad=False)
        for name in ("absmax", "nested_absmax", "offset"):
            self.register_buffer(name, getattr(weight, name))
        self.bias = bias

    @property
    def weight(self) -> QuantizedWeight:
        """The weight as it is kept."""
        return QuantizedWeight(self.packed, self.absmax, self.nested_absmax, self.offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        y: torch.Tensor = _Product.apply(x, self.bias, *self.weight)  # type: ignore[no-untyped-call]
        return y

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> QuantizedLinear:
        """Follow the model to another device, but into no other number format."""
        self.packed.data, *kept = (
            tensor.to(fn(torch.empty(0, dtype=tensor.dtype, device=tensor.device)).device)
            for tensor in self.weight
        )
        self.absmax, self.nested_absmax, self.offset = kept
        if self.bias is not None:
            self.bias.data = fn(self.bias.data)
        return self


class _Product(torch.autograd.Function):
    """Keeps the four bits, not the dense weight."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, *parts: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(*parts)
        return functional.linear(x, QuantizedWeight(*parts).dense(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight = QuantizedWeight(*ctx.saved_tensors)
        return gradient @ weight.dense(gradient.dtype), None, *([None] * len(weight))


def quantize_layers(model: Any, device: torch.device) -> None:
    """Put four-bit layers in place of the linear ones inside the decoder layers, one by one.

    Embeddings, norms and the output head stay, as in the paper; so do experts that are kept as one
    tensor, and layers that do not divide into blocks.

    Raises:
        ModelError: There is none, or `bitsandbytes` is not installed.
    """
    paths = [path for path, _ in quantizable(model)]
    if not paths:
        raise ModelError(
            "the base has no linear layers that could be kept in four bits",
            hint="use `strategy: lora`",
        )
    for path in paths:  # no list of layers: each is let go as soon as it is replaced
        layer = model.get_submodule(path)
        is_turned = isinstance(layer, Conv1D)
        weight = quantize((layer.weight.T if is_turned else layer.weight).to(device))
        quantized = QuantizedLinear(weight, layer.bias, is_turned=is_turned)
        model.set_submodule(path, quantized.requires_grad_(False))


def dequantize_layers(model: Any) -> None:
    """Put dense layers in the model's number format in place of the four-bit ones."""
    for path in [path for path, _ in quantized_layers(model)]:
        layer = model.get_submodule(path)
        weight = layer.weight.dense(model.dtype)
        n_in, n_out = layer.in_features, layer.out_features
        with torch.device("meta"):
            plain = Conv1D(n_out, n_in) if layer.is_turned else nn.Linear(n_in, n_out, bias=False)
        kept = weight.T.contiguous() if layer.is_turned else weight
        plain.weight = nn.Parameter(kept, requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(path, plain)


def quantized_layers(model: Any) -> Iterator[tuple[str, QuantizedLinear]]:
    """Yield a model's four-bit layers with their paths."""
    for path, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            yield path, module


def quantizable(model: Any) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    """Yield the layers that `quantize_layers` replaces, with their paths."""
    for path, layer in decoder_layers(model):
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear | Conv1D) and _divides(module):
                yield f"{path}.{name}", module


def _divides(layer: nn.Linear | Conv1D) -> bool:
    n_in = layer.weight.shape[0 if isinstance(layer, Conv1D) else 1]
    return layer.weight.numel() % _BLOCK == 0 and n_in % _PER_STORED == 0


@functools.cache
def _bounds() -> list[float]:
    """Return the middles between neighbours of the sixteen values of NF4."""
    values = _bitsandbytes().get_4bit_type("nf4", device="cpu")
    middles: list[float] = ((values[:-1] + values[1:]) / 2).tolist()
    return middles


@functools.cache
def _nested_code(device: torch.device) -> torch.Tensor:
    """Return the 256 values that a block's quantized largest value stands for."""
    code: torch.Tensor = _bitsandbytes().create_dynamic_map()
    return code.to(device)


@functools.cache
def _bitsandbytes() -> Any:
    """Import the library of four-bit kernels, which takes seconds."""
    try:
        with _without_kernels_from_the_hub():
            return importlib.import_module("bitsandbytes.functional")
    except ImportError as error:
        raise ModelError(
            f"a base in four bits needs `bitsandbytes`, which cannot be imported: {error}",
            hint="pip install 'tunefork[qlora]'",
        ) from error


@contextmanager
def _without_kernels_from_the_hub() -> Iterator[None]:
    """While open, no library finds `kernels`.

    With it bitsandbytes would fetch compiled code over the network as it is imported, for a product
    that is not used here, and warn where it cannot.
    """
    name = "kernels"
    before = {key: value for key, value in sys.modules.items() if key == name}
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = logger.level
    sys.modules[name] = None  # type: ignore[assignment]
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        del sys.modules[name]
        sys.modules.update(before)
