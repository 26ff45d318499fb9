"""One request while it is being answered."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.inference.decoder import Line
from tunefork.inference.engine.constraint import Matcher
from tunefork.inference.engine.draw import Drawer
from tunefork.inference.engine.pool import Entry
from tunefork.inference.engine.request import Request
from tunefork.inference.engine.text import TextStream
from tunefork.inference.engine.ticket import Ticket


@dataclass(eq=False, kw_only=True)
class Row(Line):
    """A request, and how far it is.

    Attributes:
        request: What was asked.
        ticket: Where the answer goes.
        entry: Its adapter; None is the base alone.
        drawer: Draws its tokens.
        text: Makes text of them.
        matcher: Follows its constraint.
        joined: The how manieth it was to join.
        mask: Which tokens may come next, being found out while the model runs.
        logits: What the next token is to be drawn from, where the mask was not ready.
    """

    request: Request
    ticket: Ticket
    entry: Entry | None
    drawer: Drawer
    text: TextStream
    matcher: Matcher | None = None
    joined: int = field(default=0, init=False)
    mask: Future[NDArray[np.bool_]] | None = field(default=None, init=False)
    logits: torch.Tensor | None = field(default=None, init=False)
