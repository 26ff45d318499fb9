"""Which token comes next: per row, from logits and that row's own random numbers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tunefork.inference.engine.request import Sampling

_LIKELIEST = 1024  # are looked at first: sorting a whole vocabulary is slow


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
    highest, likeliest = changed.max(dim=-1)
    firsts = zip(highest.tolist(), likeliest.tolist(), strict=True)
    found = []
    for at, (drawer, (peak, token)) in enumerate(zip(drawers, firsts, strict=True)):
        if not math.isfinite(peak):
            token = -1
        elif drawer.sampling.temperature > 0:
            token = _sample(changed[at], drawer.sampling, drawer.random.random())
        drawer.drawn[token] += 1
        found.append(_with_logprobs(logits[at], token, drawer.sampling.n_logprobs))
    return found


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


def _sample(logits: torch.Tensor, sampling: Sampling, chance: float) -> int:
    """Return the token at a chance from 0 to 1 of the cumulated probabilities."""
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p == 1:
        return _at(probabilities, chance)
    likeliest, tokens = probabilities.topk(min(_LIKELIEST, len(probabilities)))
    if float(likeliest.sum()) < sampling.top_p:
        likeliest, tokens = probabilities.sort(descending=True)
    # Keep the smallest set whose probability reaches top_p: a token goes when those before it do.
    kept = likeliest * ((likeliest.cumsum(0) - likeliest) < sampling.top_p)
    return int(tokens[_at(kept, chance)])


def _at(probabilities: torch.Tensor, chance: float) -> int:
    sums = probabilities.cumsum(0, dtype=torch.float64)
    place = int(torch.searchsorted(sums, chance * float(sums[-1]), right=True))
    last = int(torch.count_nonzero(sums < sums[-1]))  # the last that has any probability
    return min(place, last)


def _with_logprobs(logits: torch.Tensor, token: int, n_logprobs: int | None) -> Drawn:
    if n_logprobs is None:
        return Drawn(token)
    logs = torch.log_softmax(logits, dim=-1)
    top = logs.topk(n_logprobs)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Drawn(token, float(logs[token]), tuple(pairs))
