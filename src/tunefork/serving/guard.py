"""Who may ask: anybody on this machine, or who holds a key that opens what is asked for.

Without any key only this machine is answered. A web page that a browser here shows is not "this
machine": it would name its own origin, or another host, and is turned away. As soon as there is one
key, everybody needs one; that holds until all of them are forgotten, not only revoked, so that no
server opens by itself.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunefork.core.errors import TuneforkError, UsageError
from tunefork.core.loopback import is_loopback
from tunefork.serving.callers import LOCAL_USER, Caller, scopes_for
from tunefork.serving.errors import ApiError, from_error
from tunefork.serving.keyring import Keyring, wrong_key
from tunefork.serving.meters import Meters
from tunefork.serving.seen import note_caller

_OPEN = {"/health", "/ready"}  # what tells strangers nothing
# What a browser that shows an answer may make of it: nothing.
_SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        key: One key for the local user, besides those that are stored; None is none.
        is_for_others: Whether other machines reach the server; then a key is always needed.
    """

    key: str | None = field(default=None, repr=False)
    is_for_others: bool = False


def check_address(host: str, access: Access, *, has_keys: bool) -> None:
    """Refuse to listen to other machines without a key.

    Raises:
        UsageError: `host` is not this machine alone, and there is no key.
    """
    if access.key is None and not has_keys and not is_loopback(host):
        raise UsageError(
            f"`{host}` can be reached from other machines, and no key is asked for",
            hint="make one with `tunefork keys create`, or listen at 127.0.0.1",
        )


class Guard:
    """Turn away who may not ask, and count the requests of who may."""

    def __init__(self, app: ASGIApp, access: Access, keyring: Keyring, meters: Meters) -> None:
        self._app = app
        self._access = access
        self._keyring = keyring
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or answer 401, 403 or 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = LOCAL_USER
        headers = Headers(scope=scope)
        try:
            if scope["path"] not in _OPEN:
                caller = await self._caller(headers)
                note_caller(caller.key, caller.organisation)
                _check_scope(caller, scope["method"], scope["path"])
                self._meters.count_request(caller.payers)
        except ApiError as error:
            await error.response()(scope, receive, self._sending(send, caller))
            return
        except TuneforkError as error:
            await from_error(error).response()(scope, receive, self._sending(send, caller))
            return
        # What goes on for long asks again whether it may.
        scope["state"] = {"caller": caller, "check_again": partial(self._caller, headers)}
        await self._app(scope, receive, self._sending(send, caller))

    async def _caller(self, headers: Headers) -> Caller:
        access = self._access
        if access.key is None and not access.is_for_others and not await self._keyring.has_keys():
            problem = _from_elsewhere(headers)
            if problem is not None:
                raise problem
            return LOCAL_USER
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip()
        if not given or scheme.lower() != "bearer":
            raise wrong_key("You did not provide an API key.")
        if access.key is not None and hmac.compare_digest(given.encode(), access.key.encode()):
            return LOCAL_USER
        caller = await self._keyring.caller(given)
        _check_headers(caller, headers)
        return caller

    def _sending(self, send: Send, caller: Caller) -> Send:
        """Return `send`, with the headers that every answer has."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                headers.update(self._meters.headers(caller.payers))
            await send(message)

        return sending


def _check_scope(caller: Caller, method: str, path: str) -> None:
    needed = scopes_for(method, path)
    if not needed & caller.scopes:
        wanted = " or ".join(f"`{scope}`" for scope in sorted(needed))
        raise ApiError(
            403,
            f"This key may not do this: it lacks the scope {wanted}.",
            code="insufficient_permissions",
        )


def _check_headers(caller: Caller, headers: Headers) -> None:
    """Turn away who names another organisation or project than the key's, whether it is there."""
    named = {
        "organization": (caller.organisation, caller.organisation_name),
        "project": (caller.owner,),
    }
    for what, right in named.items():
        given = headers.get(f"openai-{what}")
        if given and given not in right:
            message = f"The header `OpenAI-{what.capitalize()}` does not fit the API key."
            raise ApiError(401, message, code=f"mismatched_{what}")


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
