"""One request while it is being answered."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.inference.engine.constraint import Matcher
from tunefork.inference.engine.draw import Drawer
from tunefork.inference.engine.pool import Entry
from tunefork.inference.engine.request import Request
from tunefork.inference.engine.text import TextStream
from tunefork.inference.engine.ticket import Ticket


@dataclass(eq=False)
class Row:
    """A request, and how far it is.

    Attributes:
        request: What was asked.
        ticket: Where the answer goes.
        entry: Its adapter; None is the base alone.
        drawer: Draws its tokens.
        text: Makes text of them.
        names: Of the blocks of its prompt, for the prefix cache.
        matcher: Follows its constraint.
        tokens: Prompt and answer so far.
        slot: Where its keys and values are; -1 while it waits.
        done: Tokens whose keys and values are there.
        joined: The how manieth it was to join.
        mask: Which tokens may come next, being found out while the model runs.
        logits: What the next token is to be drawn from, where the mask was not ready.
    """

    request: Request
    ticket: Ticket
    entry: Entry | None
    drawer: Drawer
    text: TextStream
    names: list[bytes]
    matcher: Matcher | None = None
    tokens: list[int] = field(default_factory=list)
    slot: int = -1
    done: int = 0
    joined: int = 0
    mask: Future[NDArray[np.bool_]] | None = None
    logits: torch.Tensor | None = None

    @property
    def n_prefix(self) -> int:
        """Places of its slot that a learned prefix takes."""
        return 0 if self.entry is None else self.entry.n_prefix

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

    @property
    def room(self) -> int:
        """The most places that it may come to fill."""
        return self.n_prefix + len(self.request.prompt) + self.request.sampling.max_tokens
