"""Merge an adapter into its base: a model folder of its own, which needs no adapter any more.

The sum is made in float32 and rounded once, to the base's own number format; the whole base is in
memory in float32 meanwhile. An adapter that was
trained beside a base in four bits is merged into what those stand for: that is the base it was
trained on, and the original weights would add back the rounding that it learned to make up for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open

from tunefork.core.errors import ModelError
from tunefork.core.files import new_folder
from tunefork.models import Base, Quantization, load_model, stored_dtype
from tunefork.strategies.effect import (
    Effect,
    check_base,
    check_effect,
    check_formats,
    check_merge,
    probe,
)
from tunefork.strategies.full import Full
from tunefork.strategies.load import load_adapter
from tunefork.strategies.protocol import Mergeable


@dataclass(frozen=True)
class Merged:
    """A merged model's folder, and what was merged."""

    folder: Path
    effect: float  # of the adapter: how far it moves the logits, relative to their spread
    note: str  # in words: what it was merged into


def merge_adapter(
    base: Base,
    adapter: Path,
    out: Path,
    *,
    quantization: Quantization | None = None,
    base_hash: str | None = None,
) -> Merged:
    """Write the sum of a base and an adapter as a model folder in the base's format.

    What was written is loaded again and compared with the base beside its adapter; where the two
    differ by more than one rounding, nothing is left of it.

    Args:
        base: What the adapter was trained on.
        adapter: Its folder.
        out: The folder to write.
        quantization: How the base was kept while the adapter was trained.
        base_hash: The hash of the base that it was trained on, where it was noted.

    Raises:
        ModelError: The adapter does not fit, has no effect, or cannot be merged; or its change is
            lost in the base's number format.
        RunError: The folder cannot be written.
    """
    check_base(base.hash(), base_hash, adapter)
    dtype = stored_dtype(base)
    with new_folder(out) as folder:
        effect = _merge_into(base, adapter, folder, quantization)
        check_formats(_formats(folder), dtype, out)
        written = load_model(Base(base.name, folder), dtype=torch.float32)
        check_merge(effect, probe(written), dtype, out)
    into = "its base" if quantization is None else f"the dequantized {quantization} weights"
    return Merged(out, effect.size, f"merged into {into}, in {str(dtype).removeprefix('torch.')}")


def _merge_into(
    base: Base, adapter: Path, folder: Path, quantization: Quantization | None
) -> Effect:
    model = load_model(base, dtype=torch.float32, quantization=quantization)
    strategy = load_adapter(model, adapter)
    if not strategy.is_mergeable:
        raise ModelError(
            f"an adapter of the strategy `{strategy.name}` cannot be merged into its base",
            where=adapter,
            hint="use it beside its base, or tune with `strategy: lora`",
        )
    effect = check_effect(model, strategy, adapter)
    cast(Mergeable, strategy).merge(model)
    Full().save(model, folder, base)
    return effect


def _formats(folder: Path) -> list[torch.dtype]:
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found += [file.get_slice(key)[:0].dtype for key in file.keys()]  # noqa: SIM118
    return found
