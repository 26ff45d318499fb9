"""Batched decoding: prompts of any length together, a slot freed as soon as its answer ends.

Greedy, or sampled with a seed of its own per prompt, so that an answer does not depend on what
else is in the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from tunefork.inference.cache import DecodeLayout, KeyValueCache, PrefillLayout
from tunefork.models import Segment, run_on
from tunefork.models.roots import prefix_length


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    max_new_tokens: int = 128
    temperature: float = 0.0  # 0 takes the likeliest token each time
    top_p: float = 1.0  # nucleus sampling, Holtzman et al. 2019 (arXiv 1904.09751)
    seed: int = 0
    slots: int = 64  # rows decoded together


@dataclass(frozen=True)
class Generated:
    """An answer: its token ids without the end token, and how it ended."""

    ids: tuple[int, ...]
    ended: Literal["stop", "length"]


@dataclass
class _Row:
    """A prompt that is being answered."""

    index: int
    slot: int
    adapter: int
    length: int  # places filled in its slot, a learned prefix included
    room: int  # how many more tokens may come
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    decoding: Decoding,
    *,
    adapters: Sequence[int] | None = None,
    max_length: int | None = None,
    on_token: Callable[[int, int], None] | None = None,
    on_answer: Callable[[int], None] | None = None,
) -> list[Generated]:
    """Answer prompts.

    Args:
        model: What `load_model` returned, adapter attached or not.
        prompts: Token ids of each prompt, generation prompt included.
        end_ids: Tokens that end an answer.
        decoding: How to draw tokens.
        adapters: Per prompt, which of the model's adapters answers it, 0 for the base alone; by
            default the first.
        max_length: The longest row the model can take: learned prefix, prompt and answer together.
        on_token: Told (prompt number, token id) as tokens are drawn.
        on_answer: Told how many answers are complete, each time one is.

    Returns:
        One answer per prompt, in order.
    """
    adapters = adapters if adapters is not None else [1] * len(prompts)
    learned = {number: prefix_length(model, number) for number in set(adapters)}
    lengths = [
        learned[number] + len(prompt) for prompt, number in zip(prompts, adapters, strict=True)
    ]
    rooms = [_room(length, decoding, max_length) for length in lengths]
    answers: list[Generated | None] = [
        None if room > 0 and prompt else Generated((), "length")
        for prompt, room in zip(prompts, rooms, strict=True)
    ]
    # Rows of similar length decode together; the longest first, so that memory peaks at once.
    waiting = deque(
        sorted(
            (index for index, answer in enumerate(answers) if answer is None),
            key=lambda index: -len(prompts[index]),
        )
    )
    if not waiting:
        return [answer for answer in answers if answer is not None]
    n_slots = min(decoding.slots, len(waiting))
    capacity = max(lengths[index] + rooms[index] for index in waiting)
    cache = KeyValueCache(n_slots, capacity)
    free = list(range(n_slots))
    active: list[_Row] = []
    while waiting or active:
        joining = [
            _Row(
                index := waiting.popleft(),
                free.pop(),
                adapters[index],
                lengths[index],
                rooms[index],
                torch.Generator().manual_seed(decoding.seed * 1_000_003 + index),
            )
            for _ in range(min(len(free), len(waiting)))
        ]
        if joining:
            logits = _prefill(model, cache, [prompts[row.index] for row in joining], joining)
            drawn = joining
            active += joining
        else:
            logits = _decode(model, cache, active)
            drawn = active
        for row, token in zip(drawn, _draw(logits, drawn, decoding), strict=True):
            answer = _take(row, token, end_ids, on_token)
            if answer is not None:
                answers[row.index] = answer
                free.append(row.slot)
                if on_answer is not None:
                    on_answer(sum(found is not None for found in answers))
        active = [row for row in active if answers[row.index] is None]
    return [answer for answer in answers if answer is not None]


def _room(length: int, decoding: Decoding, max_length: int | None) -> int:
    if max_length is None:
        return decoding.max_new_tokens
    return min(decoding.max_new_tokens, max_length - length)


def _take(
    row: _Row,
    token: int,
    end_ids: Collection[int],
    on_token: Callable[[int, int], None] | None,
) -> Generated | None:
    """Add a drawn token to a row; return its answer where that ends it."""
    if token in end_ids:
        return Generated(tuple(row.ids), "stop")
    row.ids.append(token)
    row.room -= 1
    if on_token is not None:
        on_token(row.index, token)
    return Generated(tuple(row.ids), "length") if row.room == 0 else None


def _prefill(
    model: Any, cache: KeyValueCache, prompts: list[Sequence[int]], rows: list[_Row]
) -> torch.Tensor:
    """Run whole prompts; return the logits of their last tokens: (rows, vocabulary)."""
    segments = [
        Segment(len(prompt), adapter=row.adapter) for prompt, row in zip(prompts, rows, strict=True)
    ]
    ids = torch.tensor([token for prompt in prompts for token in prompt], device=model.device)
    layout = PrefillLayout(cache, [row.slot for row in rows], segments, model.device)
    last = torch.tensor([len(prompt) for prompt in prompts], device=model.device).cumsum(0) - 1
    return run_on(model, ids, layout, last)


def _decode(model: Any, cache: KeyValueCache, rows: list[_Row]) -> torch.Tensor:
    """Run the newest token of each row; return (rows, vocabulary)."""
    ids = torch.tensor([row.ids[-1] for row in rows], device=model.device)
    slots = torch.tensor([row.slot for row in rows], device=model.device)
    lengths = torch.tensor([row.length for row in rows], device=model.device)
    adapters = None
    if any(row.adapter != 1 for row in rows):
        adapters = torch.tensor([row.adapter for row in rows], device=model.device)
    logits = run_on(model, ids, DecodeLayout(cache, slots, lengths, adapters))
    for row in rows:
        row.length += 1
    return logits


def _draw(logits: torch.Tensor, rows: list[_Row], decoding: Decoding) -> list[int]:
    if decoding.temperature == 0:
        return [int(token) for token in logits.argmax(dim=-1)]
    probabilities = torch.softmax(logits.float().cpu() / decoding.temperature, dim=-1)
    return [
        _sample(probabilities[place], decoding.top_p, row.generator)
        for place, row in enumerate(rows)
    ]


def _sample(probabilities: torch.Tensor, top_p: float, generator: torch.Generator) -> int:
    likeliest, tokens = probabilities.sort(descending=True)
    # Keep the smallest set whose probability reaches top_p: a token goes when those before it do.
    kept = likeliest * ((likeliest.cumsum(0) - likeliest) < top_p)
    return int(tokens[torch.multinomial(kept, 1, generator=generator)])
