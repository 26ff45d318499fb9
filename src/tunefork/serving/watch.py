"""The outermost gate: each request has an id, an end that is told, and an answer whatever happens.

What is told goes to the numbers (`metrics`) and to the log (`logs`). Bodies are kept for it only
where the operator has asked for message content.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunefork.serving.errors import unexpected
from tunefork.serving.ids import new_id
from tunefork.serving.seen import CURRENT, Seen

_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
_TEXT = ("application/json", "text/event-stream")
_MOST_KEPT = 65_536  # bytes of a body
UNMATCHED = "unmatched"  # the route of what leads nowhere


@dataclass(frozen=True)
class Answered:
    """How a request ended.

    Attributes:
        seen: The request.
        route: The route's template, so that there are only so many.
        status: The answer's; 499 where the client went before it began.
        seconds: To the last byte.
        is_whole: Whether the answer was sent to its end.
        asked: The body that came, None where content is not kept.
        said: The body that was sent, likewise.
    """

    seen: Seen
    route: str
    status: int
    seconds: float
    is_whole: bool
    asked: str | None = None
    said: str | None = None


@dataclass
class _Kept:
    """The beginning of a body, where it is text and to be kept."""

    wanted: bool
    parts: list[bytes] = field(default_factory=list)
    room: int = _MOST_KEPT

    def see_headers(self, headers: Headers) -> None:
        kind = headers.get("content-type", "")
        self.wanted = self.wanted and kind.startswith(_TEXT)

    def add(self, part: bytes) -> None:
        if self.wanted and self.room:
            self.parts.append(part[: self.room])
            self.room -= len(self.parts[-1])

    def text(self) -> str | None:
        return b"".join(self.parts).decode(errors="replace") if self.wanted else None


class Watch:
    """Name each request, and tell how it ended."""

    def __init__(
        self,
        app: ASGIApp,
        begin: Callable[[], None],
        tell: Sequence[Callable[[Answered], None]],
        keeps_content: bool = False,
    ) -> None:
        """Begin with none.

        Args:
            app: What answers.
            begin: Called as a request comes.
            tell: Each is called as it ends.
            keeps_content: Whether the beginning of bodies is told too.
        """
        self._app = app
        self._begin = begin
        self._tell = tuple(tell)
        self._keeps_content = keeps_content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        seen = Seen(given if _GIVEN_ID.fullmatch(given) else new_id("req_"), method)
        exchange = _Exchange(seen, receive, send, self._keeps_content, headers)
        token = CURRENT.set(seen)
        self._begin()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001  the boundary of a request
            answer = unexpected(error).response()
            if not exchange.has_begun:  # else the connection is cut, and the client sees that
                await answer(scope, receive, exchange.send)
        finally:
            CURRENT.reset(token)
            answered = exchange.ended(_template(scope))
            for tell in self._tell:
                tell(answered)


class _Exchange:
    """One request and its answer, seen as they pass."""

    def __init__(
        self, seen: Seen, receive: Receive, send: Send, keeps_content: bool, headers: Headers
    ) -> None:
        self._seen, self._receive, self._send = seen, receive, send
        self._began = time.perf_counter()
        self._status = 499
        self._is_whole = False
        self._asked, self._said = _Kept(keeps_content), _Kept(keeps_content)
        self._asked.see_headers(headers)
        self.has_begun = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._asked.add(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._seen.id
            self._said.see_headers(headers)
        else:
            self._said.add(message.get("body", b""))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_whole = True

    def ended(self, route: str) -> Answered:
        seconds = time.perf_counter() - self._began
        asked, said = self._asked.text(), self._said.text()
        return Answered(self._seen, route, self._status, seconds, self._is_whole, asked, said)


def _template(scope: Scope) -> str:
    """Return the template of the route that a request took: `/v1/files/{file_id}`."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED
