"""Prefix tuning: learned keys and values before every document (Li & Liang 2021, arXiv 2101.00190).

In each layer n keys and values are trained that every token of a document sees as if n tokens stood
before it; the document's own positions begin at n. Nothing in the base changes. They start as what
the base computes over n tokens of real text, which section 7.4 of the paper finds decisive where
there is little data. On disk it is PEFT's folder, with the tensor `prompt_embeddings`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from tunefork.core.errors import ModelError
from tunefork.data.tokens import TokenRows
from tunefork.models import Base
from tunefork.models.roots import roots_of
from tunefork.strategies.beside import Change
from tunefork.strategies.folder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    other_base,
    read_config,
    read_tensors,
    unusable,
    write_adapter,
)
from tunefork.strategies.learned_prefix import LearnedPrefix, read_states
from tunefork.strategies.parts import base_tensors

_TENSOR = "prompt_embeddings"  # PEFT's name


class PrefixSettings(BaseModel):
    """How long the prefix is, and how it is parametrised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(default=128, ge=1, le=4096)  # n; measured, see docs/strategies.md
    # Width of a hidden layer that makes keys and values while they are trained (section 4.3 of the
    # paper); None trains them as they are.
    projection: int | None = Field(default=None, ge=1, le=65536)


class Prefix:
    """The strategy; see the module's docstring."""

    name = "prefix"
    is_mergeable = False
    is_disableable = True
    is_routable = True
    is_neutral_at_start = False

    def __init__(
        self, settings: PrefixSettings | None = None, start: Sequence[int] | None = None
    ) -> None:
        """Choose how to tune.

        Args:
            settings: See `PrefixSettings`.
            start: Token ids of real text to begin with (see `first_tokens`), repeated up to n; by
                default random ones of the vocabulary.
        """
        self.settings = settings or PrefixSettings()
        self.start = tuple(start or ())
        self.number = 0

    def attach(self, model: Any, seed: int, number: int = 1) -> None:
        """Let every document of an adapter begin with what the base computes over the start text.

        Raises:
            ModelError: The model has no room for the prefix, or layers of several shapes.
        """
        n_tokens = self.settings.tokens
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is not None and n_tokens >= limit:
            raise ModelError(
                f"a prefix of {n_tokens} tokens leaves no room for text: the base takes {limit}",
                hint="set `tokens` of the prefix to a few dozen",
            )
        ids = list(self.start) or _random_ids(model, n_tokens, seed)
        ids = (ids * -(-n_tokens // len(ids)))[:n_tokens]
        self._prefix = LearnedPrefix(read_states(model, ids), self.settings.projection, seed)
        self.put(model, number)

    def put(self, model: Any, number: int) -> None:
        """Let the documents of an adapter begin with the prefix."""
        roots_of(model).put(number, self._prefix)
        self.number = number

    def take(self, model: Any) -> None:
        """Let them begin with nothing again; the prefix is kept."""
        roots_of(model).take(self.number)

    def hand_over(self, model: Any) -> dict[str, tuple[nn.Module, Change]]:
        """Return nothing: it stays, since it is added nowhere but stands before a row."""
        return {}

    def parameters(self, model: Any) -> dict[str, nn.Parameter]:
        """Return what is trained: keys and values under PEFT's name, or what makes them."""
        return dict(self._prefix.named_parameters())

    def rate_factors(self, model: Any) -> dict[str, float]:
        """Return nothing: all move at one learning rate."""
        return {}

    def frozen(self, model: Any) -> dict[str, torch.Tensor]:
        """Return the base's own tensors, by the base's names for them."""
        return base_tensors(model)

    @torch.no_grad()
    def save(self, model: Any, folder: Path, base: Base) -> None:
        """Write a PEFT adapter folder; a projection is folded away, as PEFT does."""
        layers, _, heads, size = self._prefix.layer_shape
        config = {
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.address,
            "num_virtual_tokens": self._prefix.n_tokens,
            "num_layers": layers,
            "num_attention_heads": heads,
            "token_dim": heads * size,
            "num_transformer_submodules": 1,
            "prefix_projection": False,
            "inference_mode": True,
        }
        write_adapter(folder, config, {_TENSOR: self._prefix.folded()})

    @contextlib.contextmanager
    def disabled(self, model: Any) -> Iterator[None]:
        """While open, documents of this adapter begin with nothing, as in the base."""
        self._prefix.is_enabled = False
        try:
            yield
        finally:
            self._prefix.is_enabled = True

    def describe(self) -> dict[str, Any]:
        """Return the settings, as plain data."""
        return {"name": self.name, **self.settings.model_dump()}

    @classmethod
    def load(cls, model: Any, folder: Path, number: int = 1) -> Prefix:
        """Put a prefix that we or PEFT saved on a model, and return its strategy.

        Raises:
            ModelError: It is damaged, of another method, or made for another base.
        """
        config, tensors = read_config(folder), read_tensors(folder)
        saved = tensors.get(_TENSOR)
        if saved is None or saved.ndim != 2:
            raise unusable(folder / WEIGHTS_FILE, f"it holds no matrix `{_TENSOR}`")
        if config.get("num_virtual_tokens") != len(saved):
            reason = f"`num_virtual_tokens` is not {len(saved)}, the rows of `{_TENSOR}`"
            raise unusable(folder / CONFIG_FILE, reason)
        shape = read_states(model, [0]).shape[1:]
        named = (config.get("num_layers"), config.get("num_attention_heads"))
        if saved.shape[1] != shape.numel() or named != (shape[0], shape[2]):
            reason = (
                f"its prefix has {saved.shape[1]} numbers per token in {named[0]} layers with "
                f"{named[1]} key heads, and this base {shape.numel()} in {shape[0]} with {shape[2]}"
            )
            raise other_base(folder / WEIGHTS_FILE, reason)
        strategy = cls(PrefixSettings(tokens=len(saved)))
        start = saved.view(len(saved), *shape).to(model.device)
        strategy._prefix = LearnedPrefix(start, None, 0)
        strategy.put(model, number)
        return strategy


def first_tokens(rows: TokenRows, count: int) -> tuple[int, ...]:
    """Return up to `count` token ids with which rendered rows begin: real text to start from."""
    return tuple(int(token) for token in rows.ids[:count])


def _random_ids(model: Any, count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    n_words = model.get_input_embeddings().weight.shape[0]
    return torch.randint(n_words, (count,), generator=generator).tolist()
