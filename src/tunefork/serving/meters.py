"""How much was asked in the last minute, of each key and project that has limits.

Exact, also when many ask at once: whatever may be needed is reserved under one lock before it is
done, and what it came to is entered when it is done. So in no sixty seconds more is finished than
the limit, and what is under way counts already. It is kept in memory, by the one process that
serves: a restart begins with an empty minute.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunefork.serving.callers import Payer
from tunefork.serving.errors import ApiError

_MINUTE_S = 60.0
_TICK_S = 0.1  # what comes within one is kept as one entry, and leaves with its end
_USUAL_WAIT_S = 1.0  # where only what is under way stands in the way
_Kind = Literal["requests", "tokens"]


class UsedUpError(ApiError):
    """As much was used in the last minute as may be; there is room after `wait_s`."""

    def __init__(self, message: str, wait_s: float) -> None:
        self.wait_s = wait_s
        headers = {
            "retry-after": str(max(1, math.ceil(wait_s))),
            "retry-after-ms": str(max(1, math.ceil(wait_s * 1000))),
        }
        super().__init__(429, message, code="rate_limit_exceeded", headers=headers)


@dataclass
class _Window:
    """What was used in the last minute, and what is reserved."""

    entries: deque[tuple[float, int]] = field(default_factory=deque)  # when it leaves, how much
    used: int = 0
    held: int = 0

    def drop(self, now: float) -> None:
        """Let go what is older than a minute."""
        while self.entries and self.entries[0][0] <= now:
            self.used -= self.entries.popleft()[1]

    def add(self, now: float, amount: int) -> None:
        """Enter what was used."""
        if amount <= 0:
            return
        leaves = (math.floor(now / _TICK_S) + 1) * _TICK_S + _MINUTE_S
        if self.entries and self.entries[-1][0] == leaves:
            amount_before = self.entries.pop()[1]
            self.entries.append((leaves, amount_before + amount))
        else:
            self.entries.append((leaves, amount))
        self.used += amount

    def wait_s(self, now: float, over: int) -> float:
        """Return when as much as `over` will have left."""
        for leaves, amount in self.entries:
            over -= amount
            if over <= 0:
                return leaves - now
        return _USUAL_WAIT_S


@dataclass(frozen=True)
class _Part:
    """A window with its limit."""

    window: _Window
    limit: int
    kind: _Kind

    @property
    def left(self) -> int:
        return max(0, self.limit - self.window.used - self.window.held)


class Charge:
    """Tokens that are reserved, until it is known how many they were."""

    def __init__(self, meters: Meters, held: Sequence[tuple[_Window, int]]) -> None:
        self._meters = meters
        self._held = list(held)

    def settle(self, tokens: int) -> None:
        """Enter what it came to; only the first time counts."""
        self._meters.settle(self._held, tokens)


class Meters:
    """Counts requests and tokens."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, _Kind], _Window] = {}

    def count_request(self, payers: Sequence[Payer]) -> None:
        """Count a request.

        Raises:
            UsedUpError: There were as many in the last minute as may be.
        """
        if not payers:
            return
        with self._lock:
            now = self._clock()
            parts = self._parts(payers, "requests", now)
            for part in parts:
                if part.left < 1:
                    raise _too_many(part, 1, now)
            for part in parts:
                part.window.add(now, 1)

    def reserve(self, payers: Sequence[Payer], most: int, least: int) -> Charge:
        """Reserve tokens for an answer.

        What may become more than the limit by itself, but need not, is let through where nothing
        else was used: one such answer is by how much a limit can be passed.

        Args:
            payers: Whose limits count.
            most: How many it may become.
            least: How many were asked for by number.

        Raises:
            UsedUpError: There is no room for them now.
            ApiError: There never will be.
        """
        with self._lock:
            now = self._clock()
            parts = self._parts(payers, "tokens", now)
            for part in parts:
                if least > part.limit:
                    raise _too_large(part, least)
                if min(most, part.limit) > part.left:
                    raise _too_many(part, min(most, part.limit), now)
            held = [(part.window, min(most, part.limit)) for part in parts]
            for window, amount in held:
                window.held += amount
        return Charge(self, held)

    def settle(self, held: list[tuple[_Window, int]], tokens: int) -> None:
        """Enter what a reservation came to, and let it go; for `Charge`."""
        with self._lock:
            now = self._clock()
            while held:
                window, amount = held.pop()
                window.held -= amount
                window.add(now, tokens)

    def headers(self, payers: Sequence[Payer]) -> dict[str, str]:
        """Return what is left, as headers: of the limit that is nearest, where there are two."""
        if not payers:
            return {}
        found: dict[str, str] = {}
        kinds: tuple[_Kind, ...] = ("requests", "tokens")
        with self._lock:
            now = self._clock()
            for kind in kinds:
                parts = self._parts(payers, kind, now)
                if not parts:
                    continue
                part = min(parts, key=lambda each: each.left)
                entries = part.window.entries
                wait_s = entries[-1][0] - now if entries else 0.0
                found[f"x-ratelimit-limit-{kind}"] = str(part.limit)
                found[f"x-ratelimit-remaining-{kind}"] = str(part.left)
                found[f"x-ratelimit-reset-{kind}"] = _duration(wait_s)
        return found

    def _parts(self, payers: Sequence[Payer], kind: _Kind, now: float) -> list[_Part]:
        found = []
        for payer in payers:
            is_requests = kind == "requests"
            limit = payer.requests_per_minute if is_requests else payer.tokens_per_minute
            if limit is None:
                continue
            window = self._windows.setdefault((payer.id, kind), _Window())
            window.drop(now)
            found.append(_Part(window, limit, kind))
        return found


def _too_many(part: _Part, wanted: int, now: float) -> UsedUpError:
    over = wanted - part.left
    wait_s = part.window.wait_s(now, over)
    used = part.window.used + part.window.held
    return UsedUpError(
        f"Rate limit reached on {part.kind} per minute: limit {part.limit}, used {used}, "
        f"requested {wanted}. Try again in {_duration(wait_s)}.",
        wait_s,
    )


def _too_large(part: _Part, wanted: int) -> ApiError:
    return ApiError(
        429,
        f"The request is too large: it asks for {wanted} tokens, and the limit is {part.limit} "
        "per minute. Shorten the prompt, or ask for fewer.",
        code="rate_limit_exceeded",
        headers={"retry-after": "60", "x-should-retry": "false"},
    )


def _duration(seconds: float) -> str:
    """Return a time as the API's headers write it: `6m0s`, `1s`, `120ms`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"
