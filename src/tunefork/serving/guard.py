"""Who may ask: anybody on this machine, or who has the key.

Without a key only this machine is answered. A web page that a browser here shows is not "this
machine": it would name its own origin, or another host, and is turned away.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tunefork.core.errors import UsageError
from tunefork.serving.errors import ApiError

OWNER = "local"  # whose everything is, as long as there is one key or none
_OPEN = {"/health", "/ready"}  # what tells strangers nothing


@dataclass(frozen=True)
class Access:
    """The key to ask for; None answers this machine alone."""

    key: str | None = None


def check_address(host: str, access: Access) -> None:
    """Refuse to listen to other machines without a key.

    Raises:
        UsageError: `host` is not this machine alone, and there is no key.
    """
    if access.key is None and not is_loopback(host):
        raise UsageError(
            f"`{host}` can be reached from other machines, and no key is asked for",
            hint="set one with `--api-key-env NAME`, or listen at 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Say whether a host's name or address is this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Turn away who may not ask."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            problem = self._problem(Headers(scope=scope))
            if problem is not None:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> ApiError | None:
        key = self._access.key
        if key is None:
            return _from_elsewhere(headers)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), key.encode())
        if scheme.lower() == "bearer" and is_right:
            return None
        message = "Incorrect API key provided." if given else "You did not provide an API key."
        hint = {"www-authenticate": "Bearer"}
        return ApiError(401, message, code="invalid_api_key", headers=hint)


def _from_elsewhere(headers: Headers) -> ApiError | None:
    asked, origin = headers.get("host", ""), headers.get("origin")
    for text in (f"//{asked}", origin):
        if text is None or text == "//":
            continue
        try:
            host = urlsplit(text).hostname or ""
        except ValueError:
            host = ""
        if not is_loopback(host):
            message = "Without a key only programs on this machine are answered."
            return ApiError(403, message, code="not_from_here")
    return None
