"""From a request to a row: all checks, and all that is prepared without the model."""

from __future__ import annotations

import random
from functools import lru_cache

from tunefork.core.errors import InputError
from tunefork.data.tokenizer import Tokenizer
from tunefork.inference.engine.constraint import Grammars
from tunefork.inference.engine.draw import Drawer
from tunefork.inference.engine.pool import AdapterPool, Entry
from tunefork.inference.engine.request import Request, Usage
from tunefork.inference.engine.row import Row
from tunefork.inference.engine.text import TextStream
from tunefork.inference.engine.ticket import Ticket
from tunefork.inference.prefix_cache import block_names

_TEXTS_KEPT = 1 << 15  # of one or two tokens: most of what is written was written before


class Intake:
    """Makes rows, in the threads of those who ask."""

    def __init__(
        self, tokenizer: Tokenizer, grammars: Grammars, pool: AdapterPool, max_length: int
    ) -> None:
        self._grammars, self._pool, self._max_length = grammars, pool, max_length
        self._decode = lru_cache(maxsize=_TEXTS_KEPT)(tokenizer.decode)

    def row(self, request: Request) -> Row:
        """Return a row that can join.

        Raises:
            InputError: It is too long, has no prompt, asks for an adapter that is not known, or for
                what cannot be enforced.
        """
        entry = None if request.adapter is None else self._pool.find(request.adapter)
        self._check(request, entry)
        sampling = request.sampling
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(63)
        constraint, n_prefix = sampling.constraint, 0 if entry is None else entry.n_prefix
        return Row(
            tokens=list(request.prompt),
            room=n_prefix + len(request.prompt) + sampling.max_tokens,
            n_prefix=n_prefix,
            names=block_names(request.owner, entry.digest if entry else "", request.prompt),
            request=request,
            ticket=Ticket(Usage(len(request.prompt))),
            entry=entry,
            drawer=Drawer(sampling, random.Random(seed)),
            text=TextStream(self._decode, sampling.stop),
            matcher=None if constraint is None else self._grammars.matcher(constraint),
        )

    def _check(self, request: Request, entry: Entry | None) -> None:
        n_vocabulary, n_prompt = self._grammars.n_vocabulary, len(request.prompt)
        n_answer, n_prefix = request.sampling.max_tokens, 0 if entry is None else entry.n_prefix
        if not n_prompt:
            raise InputError("the prompt is empty", hint="give at least one token")
        if min(request.prompt) < 0 or max(request.prompt) >= n_vocabulary:
            raise InputError(
                f"the prompt holds ids outside of 0 to {n_vocabulary - 1}",
                hint="make its tokens with the base's own tokenizer",
            )
        if n_prefix + n_prompt + n_answer > self._max_length:
            before = f"{n_prefix} tokens of the adapter, " if n_prefix else ""
            raise InputError(
                f"{before}{n_prompt} of the prompt and {n_answer} of the answer are more than the "
                f"{self._max_length} that fit",
                hint="shorten the prompt, or lower `max_tokens`",
            )
