"""Listen until told to stop: then nothing is taken in, and what runs is answered to its end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import prometheus_client
import uvicorn
from fastapi import FastAPI

from tunefork.serving.context import Context

# Longer than a client waits between two requests: one that comes as its connection ends is lost.
_KEEP_ALIVE_S = 180


@dataclass(frozen=True)
class Place:
    """Where to listen, and how long answers may take once told to stop."""

    host: str = "127.0.0.1"
    port: int = 8000
    drain_s: int = 30


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: threading.Event) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the end has begun, for what would otherwise go on for ever."""
        self._ending.set()
        super().handle_exit(sig, frame)


def listen(app: FastAPI, place: Place, say: Callable[[str], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Args:
        app: The application.
        place: Where to listen.
        say: Is told the address.
    """
    context = app.state.context
    assert isinstance(context, Context)
    # A second number for each, which nobody reads. It says no types of its own.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    config = uvicorn.Config(
        app,
        place.host,
        place.port,
        log_config=None,
        timeout_graceful_shutdown=place.drain_s,
        timeout_keep_alive=_KEEP_ALIVE_S,
        server_header=False,
        access_log=False,
    )
    listening: socket.socket = config.bind_socket()
    # Else the end of a short answer waits 40 ms for the client to confirm its beginning.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Else workers, who outlive the server, would hold its port.
    listening.set_inheritable(False)
    listening.listen(config.backlog)  # from here on a client waits, and is not refused
    server = _Server(config, context.ending)
    # Also for what is told before uvicorn listens to signals, and once more when it has drained: to
    # be told to stop is no failure.
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        say(f"http://{place.host}:{listening.getsockname()[1]}/v1")
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
