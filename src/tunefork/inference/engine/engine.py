"""Continuous batching in a thread of its own: requests join and leave between two steps.

In each turn the engine takes in what waits, as far as there is room; computes prompts, no more than
a budget of tokens; and gives each running row its next token. Nothing else may use the model.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

import torch

from tunefork.core.errors import Busy, InternalError
from tunefork.data.tokenizer import Tokenizer
from tunefork.inference.decoder import ROWS, Decoder
from tunefork.inference.engine.constraint import Grammars
from tunefork.inference.engine.fair import FairQueue
from tunefork.inference.engine.intake import Intake
from tunefork.inference.engine.pool import AdapterPool
from tunefork.inference.engine.request import Request
from tunefork.inference.engine.row import Row
from tunefork.inference.engine.served import Served
from tunefork.inference.engine.settings import EngineSettings, EngineStats
from tunefork.inference.engine.ticket import Ticket
from tunefork.inference.engine.turns import Turns
from tunefork.inference.engine.writer import Writer
from tunefork.inference.prefix_cache import PrefixCache

_UNLIMITED = 4096  # tokens, for a base that names no limit
_SWEEP_S = 1.0  # how often an idle engine lets forgotten adapters go


class Engine:
    """Answers requests on one base with any of a pool's adapters."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        end_ids: Collection[int],
        pool: AdapterPool,
        settings: EngineSettings | None = None,
    ) -> None:
        """Make room; `start` begins to answer.

        Args:
            model: What `load_model` returned, and what the pool puts adapters on.
            tokenizer: Its tokenizer.
            end_ids: Tokens that end an answer.
            pool: The adapters.
            settings: How much is done at once.
        """
        self.settings = settings or EngineSettings()
        limit = getattr(model.config, "max_position_embeddings", None)
        lengths = [each for each in (self.settings.max_length, limit) if isinstance(each, int)]
        self.max_length = min(lengths, default=_UNLIMITED)
        self.pool = pool
        self._prefixes = PrefixCache(self.settings.prefix_bytes)
        self._batch = Decoder[Row](
            model,
            Served(pool.residents),
            self.settings.rows,
            last=self.max_length - 1,
            bucket=ROWS,
            prefixes=self._prefixes,
        )
        n_vocabulary = int(model.get_output_embeddings().weight.shape[0])
        grammars = Grammars(tokenizer.backend.to_str(), n_vocabulary, end_ids)
        self._intake = Intake(tokenizer, grammars, pool, self.max_length)
        self._queue: FairQueue[Row] = FairQueue(lambda row: row.request.owner)
        self._lock = threading.Condition()  # guards the queue and the two flags
        self._is_closing, self._is_over = False, False
        writer = Writer(tokenizer, grammars, frozenset(end_ids))
        self._turns = Turns(self._batch, pool, self._queue, self._lock, writer, self.settings)
        self._n_threads = self.settings.threads or torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="tunefork-engine", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self, drain_s: float = 0) -> None:
        """Take nothing in any more, go on for a while with what there is, and end.

        Args:
            drain_s: How long; what is not answered by then fails.
        """
        with self._lock:
            self._is_closing = True
            self._lock.notify_all()
        if self._thread.ident is not None:
            self._thread.join(drain_s)
        with self._lock:
            self._is_over = True
            self._lock.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, request: Request) -> Ticket:
        """Take in a request; from any thread.

        Returns:
            Where its answer can be read.

        Raises:
            Busy: Too many wait, in all or of this owner, or the engine is closing.
            InputError: It is too long, has no prompt, asks for an adapter that is not known, or for
                what cannot be enforced.
            InternalError: The engine has failed.
        """
        row, settings = self._intake.row(request), self.settings
        with self._lock:
            if self._is_closing:
                raise Busy("the engine is closing", retry_after_s=5)
            if self._is_over:
                raise InternalError("the engine has failed", hint="start it again")
            n_all, n_own = len(self._queue), self._queue.count(request.owner)
            if n_all >= settings.waiting or n_own >= settings.waiting_each:
                wait_s = self._turns.tally.wait_s(n_all)
                raise Busy(
                    f"{n_all} requests wait already, {n_own} of them of the same owner",
                    retry_after_s=wait_s,
                    hint=f"ask again in {wait_s:.0f} s",
                )
            self._queue.push(row)
            self._lock.notify_all()
        return row.ticket

    def stats(self) -> EngineStats:
        """Return what is being done, and what was done so far."""
        with self._lock:
            waiting, is_over = len(self._queue), self._is_over
        tally = self._turns.tally
        return EngineStats(
            running=len(self._batch.rows),
            waiting=waiting,
            answers=tally.answers,
            failures=tally.failures,
            prompt_tokens=tally.prompt_tokens,
            cached_tokens=tally.cached_tokens,
            completion_tokens=tally.completion_tokens,
            steps=tally.steps,
            tokens_per_second=tally.tokens_per_second,
            prefix_bytes=self._prefixes.size_bytes,
            adapters_known=len(self.pool.keys),
            adapters_resident=len(self.pool.resident),
            adapter_bytes=self.pool.resident_bytes,
            is_alive=self._thread.is_alive() and not is_over,
            adapter_loads=self.pool.n_loads,
            adapter_evictions=self.pool.n_evictions,
        )

    def _run(self) -> None:
        """Answer until closed: the thread's whole life."""
        why = InternalError("the engine was closed before the answer was complete")
        torch.set_num_threads(self._n_threads)  # this thread's own
        try:
            with torch.no_grad():
                while self._wait():
                    self._turns.turn()
        except Exception as error:  # noqa: BLE001  the thread's end, and all who wait are told
            why = InternalError(f"the engine failed: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._is_over = True
            self._turns.end(why)

    def _wait(self) -> bool:
        """Wait for work; return whether to go on."""
        with self._lock:
            while not (self._is_over or self._batch.rows or len(self._queue)):
                if self._is_closing:
                    return False
                self.pool.sweep()
                self._lock.wait(_SWEEP_S)
            return not self._is_over
