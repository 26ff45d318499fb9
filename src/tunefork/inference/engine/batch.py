"""The rows that are answered together: their slots, and the two ways in which they are computed."""

from __future__ import annotations

from typing import Any

import torch

from tunefork.inference.engine.prefix_cache import BLOCK, PrefixCache
from tunefork.inference.engine.row import Row
from tunefork.inference.engine.slots import ROWS, Chunk, ChunkLayout, Slots, StepLayout, up_to
from tunefork.models import run_on
from tunefork.models.roots import roots_of
from tunefork.models.routing import serving
from tunefork.models.run import hidden_on
from tunefork.strategies import Resident, Residents, Stacks, of_stretches


class Batch:
    """Rows on one model. A row joins, its prompt is computed in chunks, then it takes steps."""

    def __init__(
        self, residents: Residents, n_slots: int, max_length: int, prefixes: PrefixCache
    ) -> None:
        """Make room.

        Args:
            residents: The adapters, and the model that they are for.
            n_slots: The most rows; rounded up to whole buckets.
            max_length: The longest row that the model takes.
            prefixes: Prompts that were computed before.
        """
        self.model: Any = residents.model
        self._residents = residents
        self._stacks = Stacks(residents.sites, self.model.device)
        self.rows: dict[int, Row] = {}  # by slot
        self._max_length = max_length
        self._prefixes = prefixes
        self._n_slots = up_to(n_slots, ROWS)
        self._n_joined = 0
        self._slots = self._new_slots()

    def _new_slots(self) -> Slots:
        slots = Slots(self._n_slots)
        slots.reserve(ROWS)
        layout = ChunkLayout(slots, [Chunk(0, 0, 1)], self.model.device)
        hidden_on(self.model, torch.zeros(ROWS, dtype=torch.long, device=self.model.device), layout)
        return slots

    @property
    def has_room(self) -> bool:
        """Whether another row may join."""
        return len(self.rows) < self._n_slots

    def join(self, row: Row) -> None:
        """Give a row a slot, with its learned prefix and what is known of its prompt."""
        self._slots.reserve(row.room + ROWS)  # a padded chunk may go beyond its end
        row.slot = next(slot for slot in range(self._n_slots) if slot not in self.rows)
        row.done, row.joined = 0, self._n_joined
        self._n_joined += 1
        self.rows[row.slot] = row
        resident = _resident(row)
        if resident is not None and row.n_prefix:
            root = roots_of(self.model).active(resident.number)
            assert root is not None, "its adapter is on the model"
            states = [part.transpose(0, 1) for pair in root.states() for part in pair]
            self._slots.write(row.slot, 0, states)
        for kept in self._prefixes.find(row.names):
            self._slots.write(row.slot, row.filled, kept)
            row.done += BLOCK
        row.ticket.usage.cached_tokens = row.done

    def leave(self, row: Row) -> None:
        """Take a row out."""
        del self.rows[row.slot]
        row.slot = -1

    def shrink(self) -> None:
        """Give back the room for rows, of which none may be left."""
        self._slots.shrink()

    def prefill(self, budget: int) -> list[tuple[Row, int]]:
        """Compute prompts, as far as a budget of tokens goes; return how many of which row."""
        chunks, rows, ids = [], [], []
        for row in self.rows.values():
            length = min(row.to_prefill, budget)
            if length <= 0:
                continue
            chunk = Chunk(row.slot, row.filled, length)
            part = row.tokens[row.done : row.done + length]
            ids += part + [0] * (chunk.padded - length)
            budget -= chunk.padded
            chunks.append(chunk)
            rows.append(row)
        if not chunks:
            return []
        device = self.model.device
        stretches = [
            (chunk.padded, _resident(row)) for chunk, row in zip(chunks, rows, strict=True)
        ]
        with serving(of_stretches(self._residents.sites, stretches, device)):
            layout = ChunkLayout(self._slots, chunks, device)
            hidden_on(self.model, torch.tensor(ids, device=device), layout)
        for row, chunk in zip(rows, chunks, strict=True):
            row.done += chunk.length
            if row.is_ready:
                self._keep(row)
        return [(row, chunk.length) for row, chunk in zip(rows, chunks, strict=True)]

    def step(self) -> tuple[list[Row], torch.Tensor] | None:
        """Compute the last token of each row that is ready.

        Returns:
            Those rows, and logits: (rows, vocabulary). None where no row is ready.
        """
        if not any(row.is_ready for row in self.rows.values()):
            return None
        self._close_up()
        n_slots = up_to(max(self.rows) + 1, ROWS)
        ids, places = [0] * n_slots, [0] * n_slots
        ready = sorted((row for row in self.rows.values() if row.is_ready), key=lambda r: r.slot)
        for row in self.rows.values():
            # What is computed for a row that is not ready goes where its next token will go.
            places[row.slot] = row.filled
        for row in ready:
            ids[row.slot] = row.tokens[-1]
        device = self.model.device
        layout = StepLayout(
            self._slots,
            torch.tensor(places, device=device),
            max(row.filled for row in ready) + 1,
            self._max_length - 1,
        )
        wanted = {row.slot: found for row in ready if (found := _resident(row)) is not None}
        with serving(self._stacks.added(n_slots, wanted)):
            logits = run_on(self.model, torch.tensor(ids, device=device), layout)
        for row in ready:
            row.done += 1
        return ready, logits[[row.slot for row in ready]]

    def _close_up(self) -> None:
        """Move the last rows into free slots where a bucket less is then computed."""
        while up_to(max(self.rows) + 1, ROWS) > up_to(len(self.rows), ROWS):
            row = self.rows.pop(max(self.rows))
            free = next(slot for slot in range(self._n_slots) if slot not in self.rows)
            self._slots.move(row.slot, free, row.filled)
            row.slot = free
            self.rows[free] = row

    def _keep(self, row: Row) -> None:
        """Keep the blocks of a prompt for later requests."""
        for number, name in enumerate(row.names):
            if name not in self._prefixes:
                begin = row.n_prefix + number * BLOCK
                self._prefixes.keep(name, self._slots.read(row.slot, begin, begin + BLOCK))


def _resident(row: Row) -> Resident | None:
    return None if row.entry is None else row.entry.resident
