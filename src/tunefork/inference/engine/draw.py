"""Which token comes next: per row, from logits and that row's own random numbers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tunefork.inference.engine.request import Sampling
from tunefork.inference.sample import sample


@dataclass
class Drawer:
    """One row's settings, random numbers, and what it has drawn."""

    sampling: Sampling
    random: random.Random
    drawn: Counter[int] = field(default_factory=Counter)

    @property
    def is_plain(self) -> bool:
        """Whether its logits are taken as they are."""
        sampling = self.sampling
        return not (sampling.logit_bias or sampling.presence_penalty or sampling.frequency_penalty)


@dataclass(frozen=True)
class Drawn:
    """A token and, where they are asked for, log-probabilities of the model at its place."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


def draw(
    logits: torch.Tensor, drawers: Sequence[Drawer], allowed: Sequence[torch.Tensor | None]
) -> list[Drawn]:
    """Draw one token for each row.

    Args:
        logits: (rows, vocabulary).
        drawers: One for each.
        allowed: Per row which tokens may come, (vocabulary,), or None for all.

    Returns:
        What was drawn; token -1 where the logits are no finite numbers.
    """
    logits = logits.float().cpu()
    changed = logits
    if any(mask is not None for mask in allowed) or not all(each.is_plain for each in drawers):
        changed = logits.clone()
        for row, drawer, mask in zip(changed, drawers, allowed, strict=True):
            _change(row, drawer, mask)
    peaks, likeliest = changed.max(dim=-1)
    is_finite = [math.isfinite(peak) for peak in peaks.tolist()]
    tokens = [
        each if known else -1 for each, known in zip(likeliest.tolist(), is_finite, strict=True)
    ]
    by_chance = [
        at for at, drawer in enumerate(drawers) if is_finite[at] and drawer.sampling.temperature > 0
    ]
    if by_chance:
        how = [drawers[at].sampling for at in by_chance]
        temperatures = torch.tensor([each.temperature for each in how]).unsqueeze(1)
        top_p = [each.top_p for each in how]
        chances = [drawers[at].random.random() for at in by_chance]
        found = sample(changed[by_chance] / temperatures, top_p, chances)
        for at, token in zip(by_chance, found, strict=True):
            tokens[at] = token
    for drawer, token in zip(drawers, tokens, strict=True):
        drawer.drawn[token] += 1
    return [
        _with_logprobs(row, token, drawer.sampling.n_logprobs)
        for row, token, drawer in zip(logits, tokens, drawers, strict=True)
    ]


def _change(logits: torch.Tensor, drawer: Drawer, allowed: torch.Tensor | None) -> None:
    """Apply penalties, biases and a constraint to one row, in place."""
    sampling = drawer.sampling
    if drawer.drawn and (sampling.presence_penalty or sampling.frequency_penalty):
        ids = torch.tensor(list(drawer.drawn))
        counts = torch.tensor(list(drawer.drawn.values()), dtype=logits.dtype)
        logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    for token, bias in sampling.logit_bias.items():
        if 0 <= token < len(logits):
            logits[token] += bias
    if allowed is not None:
        logits.masked_fill_(~allowed, float("-inf"))


def _with_logprobs(logits: torch.Tensor, token: int, n_logprobs: int | None) -> Drawn:
    if n_logprobs is None:
        return Drawn(token)
    logs = torch.log_softmax(logits, dim=-1)
    top = logs.topk(n_logprobs)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Drawn(token, float(logs[token]), tuple(pairs))
