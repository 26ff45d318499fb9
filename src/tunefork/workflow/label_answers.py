"""Answers of two models, made while the person still reads the ones before.

Prompts are answered in fixed blocks, each with a seed of its own, so that a session that was
killed shows the same answers when it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tunefork.core.hashing import hash_json
from tunefork.data import Message
from tunefork.workflow.label_items import Candidate
from tunefork.workflow.label_log import Terms
from tunefork.workflow.opened import OpenedModel, open_model

BLOCK = 8  # prompts answered together
_Pair = tuple[Candidate, Candidate]


class _Cancelled(Exception):
    """Nobody waits for the answers any more."""


class AnswersAhead:
    """Two answers to each prompt; while one block is looked at, the next is made."""

    def __init__(self, terms: Terms, prompts: Sequence[tuple[Message, ...]]) -> None:
        """Load the models.

        Raises:
            ModelError: One of them cannot be opened.
        """
        assert terms.models is not None, "somebody has to answer"
        opened = {name: open_model(name) for name in dict.fromkeys(terms.models)}
        self._sides = [opened[name] for name in terms.models]
        self._terms = terms
        self._prompts = prompts
        self._blocks: dict[int, Future[list[_Pair]]] = {}
        self._worker = ThreadPoolExecutor(1)
        self._is_closed = threading.Event()

    def get(self, at: int) -> _Pair:
        """Return both answers to a prompt by its number, waiting for them where need be."""
        block = at // BLOCK
        wanted = [number for number in (block, block + 1) if number * BLOCK < len(self._prompts)]
        self._blocks = {
            number: self._blocks.get(number) or self._worker.submit(self._answer, number)
            for number in wanted
        }
        return self._blocks[block].result()[at % BLOCK]

    def close(self) -> None:
        """Stop answering; a block in the making ends with the answer that is under way."""
        self._is_closed.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _answer(self, block: int) -> list[_Pair]:
        prompts = self._prompts[block * BLOCK : (block + 1) * BLOCK]
        first, second = (
            self._answer_side(side, opened, prompts, block)
            for side, opened in enumerate(self._sides)
        )
        return list(zip(first, second, strict=True))

    def _answer_side(
        self, side: int, opened: OpenedModel, prompts: Sequence[Sequence[Message]], block: int
    ) -> list[Candidate]:
        seed = int(hash_json([self._terms.seed, side, block])[-8:], 16)
        decoding = replace(opened.decoding, seed=seed)
        if self._terms.temperature is not None:
            decoding = replace(decoding, temperature=self._terms.temperature)
        answers = opened.chat.answer(prompts, decoding, on_answer=self._check)
        return [Candidate(opened.name, answer.text) for answer in answers]

    def _check(self, _n_done: int) -> None:
        if self._is_closed.is_set():
            raise _Cancelled
