"""Answers to many prompts at once from one model: greedy, or drawn by chance.

Each answer has random numbers of its own, so that it follows from weights and seed, whatever else
is in the batch. What prompts begin with alike is computed once, rows that end leave at once, and
others that wait take their slots.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from tunefork.inference.decoder import Added, Decoder, Line
from tunefork.inference.sample import sample
from tunefork.models.prefix import clusters
from tunefork.models.roots import prefix_length

_PREFILL = 4096  # tokens of prompts that are computed at once
_JOINING = 8  # rows join where one in so many slots is free: a few prompts cost as much as many
_SEED_RANGE = 1 << 63

Ended = Literal["stop", "length"]


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
    ended: Ended


@dataclass(frozen=True)
class Drawn:
    """An answer: its token ids, with the token that ended it, and how it ended."""

    ids: tuple[int, ...]
    ended: Ended


@dataclass(eq=False, kw_only=True)
class _Row(Line):
    """A prompt that is being answered; `group` and `shared` say with which it begins alike."""

    index: int
    adapter: int = 1
    n_prompt: int
    group: int = -1  # of rows any two of which begin with `shared` tokens in common
    shared: int = 0
    chances: Sequence[float] = ()
    ended: Ended | None = field(default=None, init=False)

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens so far, the one that ends it included."""
        return tuple(self.tokens[self.n_prompt :])


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    decoding: Decoding,
    *,
    adapters: Sequence[int] | None = None,
    max_length: int | None = None,
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
        on_answer: Told how many answers are complete, each time one is.

    Returns:
        One answer per prompt, in order.
    """
    adapters = adapters if adapters is not None else [1] * len(prompts)
    learned = {number: prefix_length(model, number) for number in set(adapters)}
    longest = max_length if max_length is not None else 1 << 62
    rows = []
    for index, (prompt, number) in enumerate(zip(prompts, adapters, strict=True)):
        n_prefix = learned[number]
        room = min(n_prefix + len(prompt) + decoding.max_new_tokens, longest)
        if prompt and room > n_prefix + len(prompt):
            row = _Row(
                tokens=list(prompt),
                room=room,
                n_prefix=n_prefix,
                index=index,
                adapter=number,
                n_prompt=len(prompt),
            )
            rows.append(row)
    if decoding.temperature > 0:
        for row in rows:
            row.chances = _chances(decoding.seed * 1_000_003 + row.index, decoding.max_new_tokens)
    _find_alike(rows)
    # Rows of similar length decode together; the longest first, so that memory peaks at once.
    rows.sort(key=lambda row: -row.n_prompt)
    answers = [Generated((), "length")] * len(prompts)
    for count, row in enumerate(
        _answered(model, rows, end_ids, decoding), len(prompts) - len(rows)
    ):
        ids = row.answer[:-1] if row.ended == "stop" else row.answer
        answers[row.index] = Generated(ids, row.ended or "length")
        if on_answer is not None:
            on_answer(count + 1)
    return answers


def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    end_ids: Collection[int],
    *,
    n_answers: int,
    max_tokens: int,
    seeds: Sequence[int],
) -> list[Drawn]:
    """Draw several answers to each of many prompts: what learning from rewards does.

    Tokens are drawn at temperature 1 from the model as it is.

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
    n_prefix = prefix_length(model, 1)
    rows = []
    for index, seed in enumerate(seeds):
        prompt = prompts[index // n_answers]
        row = _Row(
            tokens=list(prompt),
            room=n_prefix + len(prompt) + max_tokens,
            n_prefix=n_prefix,
            index=index,
            n_prompt=len(prompt),
            group=index // n_answers,
            shared=len(prompt) - 1,
            chances=_chances(seed, max_tokens),
        )
        rows.append(row)
    # Prompts of similar length together; what an answer is does not hang on its place.
    rows.sort(key=lambda row: row.n_prompt)
    decoding = Decoding(max_tokens, temperature=1.0, slots=128)
    found = {row.index: row for row in _answered(model, rows, end_ids, decoding)}
    return [Drawn(row.answer, row.ended or "length") for _, row in sorted(found.items())]


@torch.no_grad()
def _answered(
    model: Any, rows: Sequence[_Row], end_ids: Collection[int], decoding: Decoding
) -> Iterator[_Row]:
    """Decode rows in their order; yield each as it ends."""
    if not rows:
        return
    n_slots, longest = min(decoding.slots, len(rows)), max(row.room for row in rows)
    decoder = Decoder[_Row](model, _Attached(model.device), n_slots, last=longest - 1)
    waiting = deque(rows)
    while waiting or decoder.rows:
        if decoder.n_free * _JOINING >= n_slots or not decoder.rows:
            _admit(decoder, waiting)
        stepped = decoder.step()
        assert stepped is not None, "all rows are ready"
        ready, logits = stepped
        for row, token in zip(ready, _next(ready, logits, decoding), strict=True):
            row.tokens.append(token)
            if token in end_ids:
                row.ended = "stop"
            elif row.n_prefix + len(row.tokens) == row.room:
                row.ended = "length"
            if row.ended is not None:
                decoder.leave(row)
                yield row


def _admit(decoder: Decoder[_Row], waiting: deque[_Row]) -> None:
    """Let rows join as far as there is room, and compute their prompts."""
    there = {row.group: row for row in decoder.rows.values() if row.group >= 0}
    joining = [waiting.popleft() for _ in range(min(decoder.n_free, len(waiting)))]
    following = []
    for row in joining:
        if row.group >= 0 and there.setdefault(row.group, row) is not row:
            following.append(row)
        else:
            decoder.join(row)
    _prefill(decoder)
    for row in following:
        decoder.join(row, there[row.group], row.shared)
    _prefill(decoder)


def _prefill(decoder: Decoder[_Row]) -> None:
    while decoder.prefill(_PREFILL):
        pass


def _next(rows: Sequence[_Row], logits: torch.Tensor, decoding: Decoding) -> list[int]:
    if decoding.temperature == 0:
        return logits.argmax(dim=-1).tolist()
    chances = [row.chances[len(row.tokens) - row.n_prompt] for row in rows]
    return sample(logits.float() / decoding.temperature, [decoding.top_p] * len(rows), chances)


def _find_alike(rows: Sequence[_Row]) -> None:
    """Note which rows begin alike, of those with the same adapter."""
    n_groups = 0
    for number in {row.adapter for row in rows}:
        own = [row for row in rows if row.adapter == number]
        for members, shared in clusters([np.asarray(row.tokens, np.int32) for row in own]):
            if len(members) > 1:
                for at in members:
                    own[at].group, own[at].shared = n_groups, shared
                n_groups += 1


def _chances(seed: int, count: int) -> list[float]:
    """Return numbers from 0 to below 1."""
    generator = torch.Generator().manual_seed(seed % _SEED_RANGE)
    chances: list[float] = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    return chances


class _Attached:
    """Adapters that stand on the model, by number; the layout names that of each token."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def prefix(self, row: _Row) -> int:
        return row.adapter

    def over(self, stretches: Sequence[tuple[int, _Row]]) -> Added:
        if all(row.adapter == 1 for _, row in stretches):
            return None, contextlib.nullcontext()
        numbers = [row.adapter for length, row in stretches for _ in range(length)]
        return torch.tensor(numbers, device=self._device), contextlib.nullcontext()

    def beside(self, n_slots: int, rows: Sequence[_Row]) -> Added:
        return self.over([(1, row) for row in rows])
