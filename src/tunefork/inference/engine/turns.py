"""One turn of the engine: who joins, what is computed, what is drawn, who leaves.

Where memory runs out, prompts are computed in chunks half as long; where that does not help, the
younger half of the rows goes back to wait, with what it has written so far. A row for which there
is no memory even alone fails. After a minute all is tried again in full.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from tunefork.core.errors import InternalError, TuneforkError
from tunefork.inference.decoder import ROWS, Decoder
from tunefork.inference.engine.draw import draw
from tunefork.inference.engine.fair import FairQueue
from tunefork.inference.engine.pool import AdapterPool
from tunefork.inference.engine.row import Row
from tunefork.inference.engine.settings import EngineSettings
from tunefork.inference.engine.tally import Tally
from tunefork.inference.engine.writer import Writer
from tunefork.models.out_of_memory import is_out_of_memory, let_go

_MASK_WAIT_S = 0.002  # what the other rows wait for one whose grammar is slow
_RESTORE_S = 60.0
_IDLE_S = 0.05  # how long nothing is done where all rows wait for their grammars


class Turns:
    """What the engine's thread does; `lock` guards the queue, all else is the thread's own."""

    def __init__(
        self,
        batch: Decoder[Row],
        pool: AdapterPool,
        queue: FairQueue[Row],
        lock: threading.Condition,
        writer: Writer,
        settings: EngineSettings,
    ) -> None:
        self._batch, self._pool, self._queue, self._lock = batch, pool, queue, lock
        self._writer, self._settings = writer, settings
        self._restore()
        self._masks = ThreadPoolExecutor(2, "tunefork-masks")
        self._n_joined = 0
        self.tally = Tally()

    def turn(self) -> None:
        """Take in, compute prompts, take a step."""
        rows = self._batch.rows
        for row in [row for row in rows.values() if row.ticket.is_cancelled]:
            self._leave(row)
        if time.monotonic() > self._restored_at:
            self._restore()
        self._admit()
        with self._room(is_prompt=True):
            for row, n_tokens in self._batch.prefill(self._prefill_tokens):
                self._charge(row, n_tokens)
        for row in rows.values():
            if row.matcher is not None and row.is_ready and row.mask is None:
                row.mask = self._masks.submit(row.matcher.allowed)  # while the model runs
        with self._room():
            stepped = self._batch.step()
            if stepped is not None:
                for row, logits in zip(*stepped, strict=True):
                    row.logits = logits
        self._draw()

    def end(self, error: TuneforkError) -> None:
        """Tell all who still wait for an answer that none will come."""
        self._masks.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting = self._queue.take_all()
        for row in [*self._batch.rows.values(), *waiting]:
            row.ticket.put(error)

    def _admit(self) -> None:
        """Let waiting requests join; at most one adapter is loaded, so that no row waits long."""
        has_loaded = False
        while not has_loaded and self._batch.n_free and len(self._batch.rows) < self._most_rows:
            with self._lock:
                if not len(self._queue):
                    return
                row = self._queue.pop()
            if row.ticket.is_cancelled:
                self._drop(row)
                continue
            has_loaded = row.entry is not None and row.entry.resident is None
            try:
                if row.entry is not None and not self._pool.acquire(row.entry):
                    self._wait_again(row)
                    return
            except TuneforkError as error:
                self._drop(row, error)
                continue
            with self._room(row):
                self._batch.join(row)
                row.ticket.usage.cached_tokens = row.done
                row.joined, self._n_joined = self._n_joined, self._n_joined + 1
                self.tally.join(row)

    def _draw(self) -> None:
        """Draw for each row whose logits are there, and its grammar's say."""
        pending = [row for row in self._batch.rows.values() if row.logits is not None]
        self._wait_for_masks(pending)
        rows: list[Row] = []
        masks: list[torch.Tensor | None] = []
        for row in pending:
            if row.mask is not None and not row.mask.done():
                assert row.logits is not None, "it is pending"
                row.logits = row.logits.clone()  # a view would keep those of all rows
                continue
            try:
                masks.append(None if row.mask is None else torch.from_numpy(row.mask.result()))
                rows.append(row)
            except TuneforkError as error:
                self._leave(row, error)
        if not rows:
            return
        logits = torch.stack([row.logits for row in rows if row.logits is not None])
        self.tally.step(len(rows))
        for row, drawn in zip(rows, draw(logits, [r.drawer for r in rows], masks), strict=True):
            row.logits = row.mask = None
            self._charge(row, 1)
            try:
                piece = self._writer.take(row, drawn)
            except TuneforkError as error:
                self._leave(row, error)
                continue
            if piece is not None:
                if piece.ended is not None:  # first, so that who has read all finds it counted
                    self._leave(row)
                row.ticket.put(piece)

    def _wait_for_masks(self, pending: Sequence[Row]) -> None:
        masks: list[Future[Any]] = [row.mask for row in pending if row.mask is not None]
        if masks:
            is_all = len(masks) == len(self._batch.rows)
            wait(masks, timeout=_IDLE_S if is_all else _MASK_WAIT_S)

    def _charge(self, row: Row, n_tokens: int) -> None:
        with self._lock:
            self._queue.charge(row.request.owner, n_tokens)

    def _leave(self, row: Row, error: TuneforkError | None = None) -> None:
        """Take a row out of the batch, for good."""
        self._batch.leave(row)
        if row.entry is not None:
            self._pool.release(row.entry)
        self._drop(row, error)

    def _drop(self, row: Row, error: TuneforkError | None = None) -> None:
        """Let go of a row that is in no batch."""
        with self._lock:
            self._queue.leave(row.request.owner)
        self.tally.leave(has_failed=error is not None)
        if error is not None:
            row.ticket.put(error)

    def _wait_again(self, row: Row) -> None:
        with self._lock:
            self._queue.push(row, is_first=True)
            self._queue.leave(row.request.owner)

    def _restore(self) -> None:
        """Do as much at once as the settings say."""
        self._most_rows = self._settings.rows
        self._prefill_tokens = self._settings.prefill_tokens
        self._restored_at = math.inf

    @contextlib.contextmanager
    def _room(self, joining: Row | None = None, *, is_prompt: bool = False) -> Iterator[None]:
        """Compute, and go on with fewer rows where memory runs out."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            let_go(error)
        else:
            return
        self._restored_at = time.monotonic() + _RESTORE_S
        if is_prompt and self._prefill_tokens > ROWS:
            self._prefill_tokens //= 2
            return
        rows = sorted(self._batch.rows.values(), key=lambda row: row.joined)
        if joining is not None and joining not in rows:
            rows.append(joining)
        staying = rows[: len(rows) // 2]
        self._most_rows = max(1, len(staying))
        for row in rows[len(staying) :]:
            self._retreat(row, is_last=len(rows) == 1)
        if not self._batch.rows:
            self._batch.shrink()

    def _retreat(self, row: Row, *, is_last: bool) -> None:
        """Let a row wait for its turn again, or fail where it was the only one."""
        if row.slot >= 0:
            self._batch.leave(row)
        if row.entry is not None:
            self._pool.release(row.entry)
        row.logits = None
        if is_last:
            hint = "shorten the prompt, or lower `max_tokens`"
            self._drop(row, InternalError("there is not enough memory for this request", hint=hint))
        else:
            self._wait_again(row)
