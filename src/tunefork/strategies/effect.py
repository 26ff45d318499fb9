"""Does an adapter do anything, and did merging keep what it does?

An adapter whose tensors were lost, or a merge that rounded the change away, computes what the base
computes, and nothing fails. So logits of a few fixed tokens are compared: with the adapter and
without it, before a merge and after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunefork.core.errors import ModelError
from tunefork.models import PackedLayout, Segment, run_on
from tunefork.strategies.protocol import Adapter

_N_TOKENS = 8
_LEAST_KEPT = 0.5  # of the adapter's effect; whole but for rounding where a merge went well
# How far one rounding of the weights may bring the logits off, relative to their spread: several
# times what it did on the bundled base and small Llama and Gemma models (5e-3 in bf16).
_TOLERANCE = {torch.float32: 5e-5, torch.float16: 1.5e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Effect:
    """What a model computes at the probe's tokens without an adapter and with it."""

    base: torch.Tensor  # (tokens, vocabulary), float32
    tuned: torch.Tensor

    @property
    def size(self) -> float:
        """How far the adapter moves the logits, relative to their spread."""
        return _norm(self.tuned - self.base) / _spread(self.base)


@torch.no_grad()
def probe(model: Any, number: int = 1) -> torch.Tensor:
    """Return the logits of an adapter at fixed tokens: (tokens, vocabulary), float32."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(_N_TOKENS) * 7919 + 17) % vocabulary  # 7919 is prime: no token twice
    layout = PackedLayout([Segment(_N_TOKENS, adapter=number)], model.device)
    if not model.training:
        return run_on(model, ids.to(model.device), layout).float()
    model.eval()
    try:
        return run_on(model, ids.to(model.device), layout).float()
    finally:
        model.train()


def check_effect(
    model: Any, adapter: Adapter, where: Path, base: torch.Tensor | None = None
) -> Effect:
    """Return what an adapter on a model does.

    Args:
        model: What `load_model` returned, with the adapter on it.
        adapter: Its strategy.
        where: The folder that the adapter lies in, for the message.
        base: What `probe` returns of the base alone, where it is known.

    Raises:
        ModelError: It does nothing, or its results are no numbers.
    """
    tuned = probe(model, adapter.number)
    if base is None:
        with adapter.disabled(model):
            base = probe(model, adapter.number)
    effect = Effect(base, tuned)
    if not bool(torch.isfinite(tuned).all()):
        raise ModelError(
            "with the adapter the model's results are no finite numbers",
            where=where,
            hint="bring the file back as it was saved, or tune again",
        )
    if effect.size == 0:
        raise ModelError(
            f"the adapter has no effect: with it and without it the model computes the same in "
            f"{_name(model.dtype)}",
            where=where,
            hint="its tensors are zero or as they were before training; bring the file back as it "
            "was saved, or tune again",
        )
    return effect


def check_merge(effect: Effect, merged: torch.Tensor, dtype: torch.dtype, where: Path) -> None:
    """Check that a merged model computes what its base with the adapter computes.

    All three are to be computed in float32: in a shorter format the noise of the products hides
    what is compared here.

    Args:
        effect: What `check_effect` returned before the merge.
        merged: What `probe` returns of the merged model.
        dtype: The number format that the merged weights have to be in.
        where: The merged model's folder, for the message.

    Raises:
        ModelError: The adapter's change is not in it, or more than rounding is.
    """
    change = (effect.tuned - effect.base).double()
    kept = float(((merged - effect.base).double() * change).sum() / change.square().sum())
    if not kept >= _LEAST_KEPT:  # also where it is no number
        share = f"{max(0.0, kept):.0%}" if math.isfinite(kept) else "none"
        raise ModelError(
            f"the merge lost the adapter: {share} of its effect is left in {_name(dtype)}",
            where=where,
            hint="its change is smaller than that number format can tell, or was not added; use "
            "the adapter beside its base, or merge into a base in float32",
        )
    off = _norm(merged - effect.tuned) / _spread(effect.tuned)
    if off > _TOLERANCE.get(dtype, 0.0):
        raise ModelError(
            f"the merged model is not the base with the adapter: its logits are off by {off:.2%} "
            f"of their spread, and one rounding to {_name(dtype)} explains "
            f"{_TOLERANCE.get(dtype, 0.0):.2%}",
            where=where,
            hint="the sum was made in a shorter number format; merge anew, in float32 and rounded "
            "once",
        )


def check_formats(found: Iterable[torch.dtype], dtype: torch.dtype, where: Path) -> None:
    """Check that merged weights are in the base's own number format.

    Raises:
        ModelError: Some are in another one.
    """
    others = {each for each in found if each.is_floating_point and each != dtype}
    if others:
        names = ", ".join(sorted(map(_name, others)))
        raise ModelError(
            f"the merged weights are {names}, and the base's are {_name(dtype)}",
            where=where,
            hint="merge anew: the sum is rounded once, to the base's own number format",
        )


def check_base(found: str, expected: str | None, where: Path) -> None:
    """Check that an adapter's base is the one it was trained on.

    Args:
        found: The hash of the base at hand.
        expected: The one noted with the adapter; None where nothing was noted.
        where: Where it was noted, for the message.

    Raises:
        ModelError: They differ.
    """
    if expected is not None and expected != found:
        raise ModelError(
            f"the adapter was trained on another base: its weights hash to {expected[:19]}…, and "
            f"these to {found[:19]}…",
            where=where,
            hint="bring back the base's files as they were, or tune again",
        )


def _norm(difference: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(difference))


def _spread(logits: torch.Tensor) -> float:
    """Return how far logits are from the mean of their place, which changes no probability."""
    return max(_norm(logits - logits.mean(1, keepdim=True)), torch.finfo(torch.float32).tiny)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
