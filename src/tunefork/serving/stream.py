"""Server-sent events: one object a line, and `[DONE]`; what fails on the way is one of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import StreamingResponse

from tunefork.core.errors import TuneforkError
from tunefork.serving.errors import ApiError, from_error, unexpected

# What a document says of a route that may answer with a stream.
STREAMED: dict[str, Any] = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def event(value: Mapping[str, Any], name: str | None = None) -> str:
    """Return one event."""
    head = f"event: {name}\n" if name is not None else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"


DONE = "data: [DONE]\n\n"


async def streaming(events: AsyncIterator[str]) -> StreamingResponse:
    """Return the answer that sends events as they come.

    The first one is waited for: what fails before it is answered with a status of its own.

    Raises:
        TuneforkError: It failed at once.
    """
    first = await anext(events, "")
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_guarded(first, events), 200, headers, "text/event-stream")


async def _guarded(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    try:
        async for each in events:
            yield each
    except ApiError as error:
        yield event(error.body())
    except TuneforkError as error:
        yield event(from_error(error).body())
    except Exception as error:  # noqa: BLE001  the boundary: the status is sent already
        yield event(unexpected(error).body())
