"""Several answers to each of many prompts at once: what learning from rewards draws.

A prompt is computed once for all its answers, and its keys and values are copied to their slots.
Tokens are drawn at temperature 1 from the model as it is. Each answer has a seed of its own, and
one draw of a uniform number for each token, so that the answers follow from weights and seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from tunefork.inference.cache import DecodeLayout, KeyValueCache, PrefillLayout
from tunefork.models import Segment, run_on
from tunefork.models.roots import prefix_length

_SLOTS = 128  # answers that are drawn together
_SEED_RANGE = 1 << 63


@dataclass(frozen=True)
class Drawn:
    """An answer: its token ids, with the token that ended it, and how it ended."""

    ids: tuple[int, ...]
    ended: Literal["stop", "length"]


@dataclass
class _Row:
    """An answer that is being drawn."""

    number: int
    slot: int
    length: int  # places filled in its slot, a learned prefix included
    ids: list[int] = field(default_factory=list)


@torch.no_grad()
def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    *,
    n_answers: int,
    max_tokens: int,
    seeds: Sequence[int],
) -> list[Drawn]:
    """Draw answers.

    Args:
        model: What `load_model` returned, a strategy attached or not.
        prompts: Token ids of each, one at least; prompt and answer fit into a row of the model.
        end_ids: Tokens that end an answer.
        n_answers: To each prompt.
        max_tokens: Of an answer, the token that ends it included.
        seeds: One for each answer.

    Returns:
        The answers, those to one prompt side by side.
    """
    at_once = max(1, _SLOTS // n_answers)
    # Prompts of similar length together; what an answer is does not hang on its place.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    found: list[Drawn | None] = [None] * (len(prompts) * n_answers)
    for begin in range(0, len(order), at_once):
        chosen = order[begin : begin + at_once]
        numbers = [number * n_answers + each for number in chosen for each in range(n_answers)]
        drawn = _draw_together(
            model,
            [prompts[number] for number in chosen],
            end_ids,
            n_answers,
            _uniforms([seeds[number] for number in numbers], max_tokens),
        )
        for number, answer in zip(numbers, drawn, strict=True):
            found[number] = answer
    return [answer for answer in found if answer is not None]


def _uniforms(seeds: Sequence[int], count: int) -> torch.Tensor:
    """Return numbers from 0 to below 1, a row for each seed: (seeds, count)."""
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % _SEED_RANGE)
        rows.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def _draw_together(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    n_answers: int,
    uniforms: torch.Tensor,  # (answers, most tokens)
) -> list[Drawn]:
    learned, max_tokens = prefix_length(model, 1), uniforms.shape[1]
    cache = KeyValueCache(len(uniforms), learned + max(map(len, prompts)) + max_tokens)
    logits = _prefill(model, cache, prompts, n_answers)
    logits = logits.repeat_interleave(n_answers, dim=0)
    rows = [
        _Row(number, number, learned + len(prompts[number // n_answers]))
        for number in range(len(uniforms))
    ]
    found: list[Drawn | None] = [None] * len(rows)
    for at in range(max_tokens):
        chosen = uniforms[[row.number for row in rows], at]
        for row, token in zip(rows, _choose(logits, chosen), strict=True):
            row.ids.append(token)
            if token in end_ids:
                found[row.number] = Drawn(tuple(row.ids), "stop")
        rows = [row for row in rows if found[row.number] is None]
        if not rows or at == max_tokens - 1:
            break
        logits = _decode(model, cache, rows)
    for row in rows:
        found[row.number] = Drawn(tuple(row.ids), "length")
    return [answer for answer in found if answer is not None]


def _prefill(
    model: Any, cache: KeyValueCache, prompts: Sequence[Sequence[int]], n_answers: int
) -> torch.Tensor:
    """Run whole prompts, each into the slots of its answers; return (prompts, vocabulary)."""
    slots = range(0, cache.slots, n_answers)
    ids = torch.tensor([token for prompt in prompts for token in prompt], device=model.device)
    segments = [Segment(len(prompt)) for prompt in prompts]
    layout = PrefillLayout(cache, slots, segments, model.device)
    last = torch.tensor([len(prompt) for prompt in prompts], device=model.device).cumsum(0) - 1
    logits = run_on(model, ids, layout, last)
    cache.copy_along(n_answers)
    return logits


def _decode(model: Any, cache: KeyValueCache, rows: list[_Row]) -> torch.Tensor:
    """Run the newest token of each row; return (rows, vocabulary)."""
    ids = torch.tensor([row.ids[-1] for row in rows], device=model.device)
    slots = torch.tensor([row.slot for row in rows], device=model.device)
    lengths = torch.tensor([row.length for row in rows], device=model.device)
    for row in rows:
        row.length += 1
    return run_on(model, ids, DecodeLayout(cache, slots, lengths))


def _choose(logits: torch.Tensor, uniforms: torch.Tensor) -> list[int]:
    """Return the token of each row at which the summed probability passes its uniform number."""
    sums = torch.softmax(logits.float(), dim=-1).cumsum(dim=-1, dtype=torch.float64)
    wanted = uniforms.to(sums.device).unsqueeze(1) * sums[:, -1:]
    found = torch.searchsorted(sums, wanted, right=True).squeeze(1)
    chosen: list[int] = found.clamp(max=logits.shape[-1] - 1).tolist()
    return chosen
