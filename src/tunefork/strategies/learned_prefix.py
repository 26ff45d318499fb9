"""The keys and values of a learned prefix: what they begin as, and how they are parametrised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional

from tunefork.core.errors import ModelError
from tunefork.models import PackedLayout, Segment, run_on
from tunefork.models.attention import AttentionSettings
from tunefork.models.roots import Roots, States
from tunefork.strategies.parts import AdapterPart


class LearnedPrefix(AdapterPart):
    """One prefix: float32 masters, computed in the model's number format.

    As PEFT keeps it: (n, layers * 2 * key heads * head size), a layer's keys before its values.
    With a projection it is start + W2 tanh(W1 e + b1) + b2, where W2 and b2 begin as zero.
    """

    start: torch.Tensor

    def __init__(self, start: torch.Tensor, projection: int | None, seed: int) -> None:
        """Begin with the given keys and values: (n, layers, 2, key heads, head size)."""
        super().__init__()
        self.n_tokens, *self.layer_shape = start.shape
        self.is_enabled = True
        flat = start.detach().float().flatten(1)
        self.projects = projection is not None
        if projection is None:
            self.prompt_embeddings = nn.Parameter(flat)
            return
        self.register_buffer("start", flat)
        generator = torch.Generator().manual_seed(seed)
        width = projection**-0.5
        embedding = torch.randn(self.n_tokens, projection, generator=generator)
        first = torch.empty(projection, projection).uniform_(-width, width, generator=generator)
        self.embedding = nn.Parameter(embedding.to(flat.device))
        self.first = nn.Parameter(first.to(flat.device))
        self.first_bias = nn.Parameter(flat.new_zeros(projection))
        self.second = nn.Parameter(flat.new_zeros(flat.shape[1], projection))
        self.second_bias = nn.Parameter(flat.new_zeros(flat.shape[1]))

    def folded(self) -> torch.Tensor:
        """Return keys and values as they are saved: (n, layers * 2 * key heads * head size)."""
        if not self.projects:
            return self.prompt_embeddings
        hidden = torch.tanh(functional.linear(self.embedding, self.first, self.first_bias))
        return self.start + functional.linear(hidden, self.second, self.second_bias)

    def states(self) -> Sequence[States]:
        """Return keys and values of each layer, both (n, key heads, head size)."""
        _, two, heads, size = self.layer_shape
        parts = self.folded().view(self.n_tokens, -1, heads, size).unbind(1)
        return list(zip(parts[::two], parts[1::two], strict=True))


@torch.no_grad()
def read_states(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the base's keys and values over a text: (tokens, layers, 2, key heads, head size).

    Raises:
        ModelError: Its layers are not all of one shape.
    """
    layout = _Reading([Segment(len(ids), adapter=0)], model.device)
    run_on(model, torch.tensor(ids, device=model.device), layout)
    pairs = [layout.read[layer] for layer in sorted(layout.read)]
    if len({states.shape for pair in pairs for states in pair}) != 1:
        raise ModelError(
            "this base's layers have keys and values of several shapes, which a prefix cannot have",
            hint="use `strategy: lora`",
        )
    return torch.stack([torch.stack(pair, dim=1) for pair in pairs], dim=1)


class _Reading(PackedLayout):
    """A layout that keeps what each layer asks it with."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        super().__init__(segments, device)
        self.read: dict[int, States] = {}

    def behind(self, roots: Roots) -> Self:
        """Return itself: the base reads the text with nothing before it."""
        return self

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        self.read[settings.layer] = (key.transpose(0, 1).clone(), value.transpose(0, 1).clone())
        return super().attend(query, key, value, settings)
