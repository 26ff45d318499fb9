"""Rows that are answered together on one model: prompts are computed in chunks, then steps taken.

A row joins at any time, and leaves as soon as its answer ends; the last row then takes its slot.
A step computes the slots from the first to a multiple of a bucket, whether they hold a row or not,
and chunks are padded to it. With buckets of `ROWS`, a row's results are the same to the bit
whatever else is in the batch, which they are not where a product has few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch

from tunefork.inference.prefix_cache import BLOCK, PrefixCache
from tunefork.inference.slots import Chunk, ChunkLayout, Slots, StepLayout, up_to
from tunefork.models import run_on
from tunefork.models.roots import Roots, roots_of
from tunefork.models.run import hidden_on

ROWS = 16  # float32 products on a CPU: rows are equal from here on, measured
_LONGEST_CHUNK = 512  # tokens of a row at once: what attention takes grows with their square


@dataclass(eq=False, kw_only=True)
class Line:
    """One row of tokens, and how far it is.

    Attributes:
        tokens: Prompt and answer so far.
        room: The most places that it may come to fill.
        n_prefix: Places of its slot that a learned prefix takes.
        names: Of the blocks of its prompt, for the prefix cache.
        slot: Where its keys and values are; -1 while it waits.
        done: Tokens whose keys and values are there.
    """

    tokens: list[int]
    room: int
    n_prefix: int = 0
    names: Sequence[bytes] = ()
    slot: int = field(default=-1, init=False)
    done: int = field(default=0, init=False)

    @property
    def filled(self) -> int:
        """Places of its slot that are filled."""
        return self.n_prefix + self.done

    @property
    def to_prefill(self) -> int:
        """Tokens before its last one that are still to be computed."""
        return len(self.tokens) - 1 - self.done

    @property
    def is_ready(self) -> bool:
        """Whether its last token is the one that is computed next."""
        return self.done == len(self.tokens) - 1


L = TypeVar("L", bound=Line)
_Of = TypeVar("_Of", bound=Line, contravariant=True)
# The number of each token's adapter, as `Layout.adapters`, and what is to be open meanwhile.
Added = tuple[torch.Tensor | None, AbstractContextManager[None]]


class Adapters(Protocol[_Of]):
    """What adapters add for rows."""

    def prefix(self, row: _Of) -> int:
        """Return the number of a row's learned prefix, where it has one."""
        ...

    def over(self, stretches: Sequence[tuple[int, _Of]]) -> Added:
        """Return what is added for tokens that are stretches of rows, each of a length."""
        ...

    def beside(self, n_slots: int, rows: Sequence[_Of]) -> Added:
        """Return what is added for one token in each slot, some of which hold these rows."""
        ...


class Decoder(Generic[L]):
    """The rows, by slot, and the cache of their keys and values."""

    def __init__(
        self,
        model: Any,
        adapters: Adapters[L],
        n_slots: int,
        *,
        last: int,
        bucket: int = 1,
        prefixes: PrefixCache | None = None,
    ) -> None:
        """Make room.

        Args:
            model: What `load_model` returned.
            adapters: What is added for each row.
            n_slots: The most rows; rounded up to whole buckets.
            last: The last position that the model takes.
            bucket: What the rows of a step, and the tokens of a chunk, are a multiple of.
            prefixes: Prompts that were computed before.
        """
        self.model = model
        self.rows: dict[int, L] = {}
        self._adapters, self._prefixes = adapters, prefixes
        self._bucket, self._n_slots, self._last = bucket, up_to(n_slots, bucket), last
        self._slots = Slots(self._n_slots, model.dtype, model.device)

    @property
    def n_free(self) -> int:
        """How many more rows may join."""
        return self._n_slots - len(self.rows)

    def join(self, row: L, like: L | None = None, shared: int = 0) -> None:
        """Give a row a slot, with its learned prefix and what is known of its prompt.

        Args:
            row: The row.
            like: One that is there and begins with the same tokens, which are computed.
            shared: How many these are.
        """
        self._slots.reserve(row.room + self._bucket)  # a padded chunk may go beyond its end
        row.slot = next(slot for slot in range(self._n_slots) if slot not in self.rows)
        row.done = 0
        self.rows[row.slot] = row
        if like is not None:
            row.done = shared
            self._slots.copy(like.slot, row.slot, row.filled)
        elif row.n_prefix:
            self._slots.write(
                row.slot, 0, _learned(roots_of(self.model), self._adapters.prefix(row))
            )
        if self._prefixes is not None:
            for kept in self._prefixes.find(row.names):
                self._slots.write(row.slot, row.filled, kept)
                row.done += BLOCK

    def leave(self, row: L) -> None:
        """Take a row out."""
        del self.rows[row.slot]
        row.slot = -1

    def shrink(self) -> None:
        """Give back the room for rows, of which none may be left."""
        self._slots.shrink()

    def prefill(self, budget: int) -> list[tuple[L, int]]:
        """Compute prompts, as far as a budget of tokens goes; return how many of which row."""
        chunks: list[Chunk] = []
        rows: list[L] = []
        ids: list[int] = []
        for row in self.rows.values():
            length = min(row.to_prefill, budget, _LONGEST_CHUNK)
            if length <= 0:
                continue
            chunk = Chunk(row.slot, row.filled, length, up_to(length, self._bucket))
            part = row.tokens[row.done : row.done + length]
            ids += part + [0] * (chunk.padded - length)
            budget -= chunk.padded
            chunks.append(chunk)
            rows.append(row)
        if not chunks:
            return []
        device = self.model.device
        stretches = [(chunk.padded, row) for chunk, row in zip(chunks, rows, strict=True)]
        numbers, added = self._adapters.over(stretches)
        with added:
            layout = ChunkLayout(self._slots, chunks, numbers, device)
            hidden_on(self.model, torch.tensor(ids, device=device), layout)
        for row, chunk in zip(rows, chunks, strict=True):
            row.done += chunk.length
            if self._prefixes is not None and row.is_ready:
                self._keep(row, self._prefixes)
        return [(row, chunk.length) for row, chunk in zip(rows, chunks, strict=True)]

    def step(self) -> tuple[list[L], torch.Tensor] | None:
        """Compute the last token of each row that is ready.

        Returns:
            Those rows, and logits: (rows, vocabulary). None where no row is ready.
        """
        if not any(row.is_ready for row in self.rows.values()):
            return None
        self._close_up()
        n_slots = up_to(max(self.rows) + 1, self._bucket)
        ids, places = [0] * n_slots, [0] * n_slots
        ready = sorted((row for row in self.rows.values() if row.is_ready), key=lambda r: r.slot)
        for row in self.rows.values():
            # What is computed for a row that is not ready goes where its next token will go.
            places[row.slot] = row.filled
        for row in ready:
            ids[row.slot] = row.tokens[-1]
        device = self.model.device
        numbers, added = self._adapters.beside(n_slots, ready)
        layout = StepLayout(
            self._slots,
            torch.tensor(places, device=device),
            numbers,
            max(row.filled for row in ready) + 1,
            self._last,
        )
        with added:
            logits = run_on(self.model, torch.tensor(ids, device=device), layout)
        for row in ready:
            row.done += 1
        if len(ready) < n_slots:
            logits = logits[[row.slot for row in ready]]
        return ready, logits

    def _close_up(self) -> None:
        """Move the last rows into free slots where a bucket less is then computed."""
        while up_to(max(self.rows) + 1, self._bucket) > up_to(len(self.rows), self._bucket):
            row = self.rows.pop(max(self.rows))
            free = next(slot for slot in range(self._n_slots) if slot not in self.rows)
            self._slots.copy(row.slot, free, row.filled)
            row.slot = free
            self.rows[free] = row

    def _keep(self, row: L, prefixes: PrefixCache) -> None:
        """Keep the blocks of a prompt for later rows."""
        for number, name in enumerate(row.names):
            if name not in prefixes:
                begin = row.n_prefix + number * BLOCK
                prefixes.keep(name, self._slots.read(row.slot, begin, begin + BLOCK))


def _learned(roots: Roots, number: int) -> list[torch.Tensor]:
    """Return a learned prefix: keys, values of each layer in turn, each (key heads, n, size)."""
    root = roots.active(number)
    assert root is not None, "its adapter is on the model"
    return [part.transpose(0, 1) for pair in root.states() for part in pair]
