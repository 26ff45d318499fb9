"""What is known of a request while it is answered: whose it is, what it costs, never what it says.

`CURRENT` gives it to whoever works on the request, also in the threads that work for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from tunefork.inference.engine import Ticket


@dataclass
class Seen:
    """A request that is being answered.

    Attributes:
        id: What its answer, and every line of the log about it, names it by.
        method: GET, POST and so on.
        key: The id of the key that it came with.
        organisation: Whose key that is.
        other_tokens: Read without the engine.
        asked: Answers of the engine, and how many of them share a prompt.
    """

    id: str
    method: str
    key: str | None = None
    organisation: str | None = None
    other_tokens: int = 0
    asked: list[tuple[Sequence[Ticket], int]] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """How much was read; a prompt counts once for all of its answers."""
        prompts = (ticket for tickets, n in self.asked for ticket in tickets[::n])
        return self.other_tokens + sum(ticket.usage.prompt_tokens for ticket in prompts)

    @property
    def completion_tokens(self) -> int:
        """How much was written so far."""
        every = (ticket for tickets, _ in self.asked for ticket in tickets)
        return sum(ticket.usage.completion_tokens for ticket in every)


CURRENT: ContextVar[Seen | None] = ContextVar("seen", default=None)


def note_tickets(tickets: Sequence[Ticket], n: int) -> None:
    """Note that the engine was asked, `n` answers to each prompt; nothing outside of a request."""
    seen = CURRENT.get()
    if seen is not None:
        seen.asked.append((tickets, n))


def note_caller(key: str | None, organisation: str) -> None:
    """Note who asks."""
    seen = CURRENT.get()
    if seen is not None:
        seen.key, seen.organisation = key, organisation


def note_tokens(count: int) -> None:
    """Note what was read without the engine; nothing outside of a request."""
    seen = CURRENT.get()
    if seen is not None:
        seen.other_tokens += count
