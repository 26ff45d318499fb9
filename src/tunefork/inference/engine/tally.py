"""What the engine has done, and how fast."""

from __future__ import annotations

import time
from collections import deque

from tunefork.inference.engine.row import Row

_WINDOW_S = 10.0
_LONGEST_WAIT_S = 60.0


class Tally:
    """Counts, written by the engine's thread only."""

    def __init__(self) -> None:
        self.answers = self.failures = self.steps = 0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self._recent: deque[tuple[float, int, int]] = deque()  # when, tokens, answers

    def join(self, row: Row) -> None:
        """Count a request that has joined."""
        usage = row.ticket.usage
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens

    def step(self, n_tokens: int) -> None:
        """Count the tokens of one step."""
        self.steps += 1
        self.completion_tokens += n_tokens
        self._note(n_tokens, 0)

    def leave(self, *, has_failed: bool) -> None:
        """Count a request that has ended."""
        self.failures += has_failed
        self.answers += not has_failed
        self._note(0, 1)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers over the last seconds."""
        return sum(tokens for _, tokens, _ in tuple(self._recent)) / _WINDOW_S

    def wait_s(self, n_waiting: int) -> float:
        """Return in how many seconds there is room again: at the recent speed, all that wait."""
        answers = sum(ended for _, _, ended in tuple(self._recent))
        if not answers:
            return 5.0
        return min(_LONGEST_WAIT_S, max(1.0, n_waiting * _WINDOW_S / answers / 2))

    def _note(self, tokens: int, answers: int) -> None:
        now = time.monotonic()
        self._recent.append((now, tokens, answers))
        while self._recent[0][0] < now - _WINDOW_S:
            self._recent.popleft()
