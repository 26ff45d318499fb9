"""How much a request may be: the server's limits, and the gate that counts a body's bytes."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunefork.serving.errors import ApiError

MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """What one server takes."""

    body_bytes: int = 8 * MEGABYTE  # of a request in JSON
    file_bytes: int = 512 * MEGABYTE  # OpenAI's own
    files: int = 10_000  # kept for one owner
    stored_bytes: int = 20_000 * MEGABYTE  # of all files of one owner
    jobs_waiting: int = 100  # of one owner, not yet ended
    completion_tokens: int = 4096  # of one answer
    choices: int = 16  # `n`
    prompts: int = 64  # of one legacy completion or embedding request


class BodyLimit:
    """Refuse bodies that are too large, by what they say and by what comes."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == "/v1/files" and scope["method"] == "POST"
        # A form has lines of its own around the file.
        most = self._limits.file_bytes + MEGABYTE if is_upload else self._limits.body_bytes
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:20]) > most:
            await _drain(receive, most)
            await _too_large(most).response()(scope, receive, send)
            return
        counted = 0

        async def counting() -> Message:
            nonlocal counted
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > most:
                raise _too_large(most)
            return message

        await self._app(scope, counting, send)


async def _drain(receive: Receive, most: int) -> None:
    """Read a body away: who is cut off while sending sees no answer. There is an end to it."""
    read, is_more = 0, True
    while is_more and read <= 2 * most:
        message = await receive()
        read += len(message.get("body", b""))
        is_more = message.get("more_body", False)


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"The body is larger than {most / MEGABYTE:.0f} MB, the most that is taken here.",
        code="body_too_large",
        headers={"connection": "close"},
    )
