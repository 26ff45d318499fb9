"""Another server that speaks OpenAI's API: asked with patience, its refusals told in one sentence.

What fails for a moment is asked again: a connection that drops, a server that restarts, `429` and
`503` after as long as they say. What would be refused again is not. No key travels in the clear.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tunefork.core.errors import RemoteError, UsageError
from tunefork.core.events import Noted, Progress, Sink
from tunefork.core.loopback import is_loopback

_TIMEOUT = httpx2.Timeout(120.0, connect=10.0)
_PATIENCE_S = 600.0  # for a server that is away
_LONGEST_PAUSE_S = 15.0
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_CHUNK = 1 << 20
_LONG_BYTES = 4 << 20  # from here on the progress is told
_NEVER_BETTER = "insufficient_quota"  # sent as 429 as well


@dataclass(frozen=True)
class Address:
    """Where a server is, and the key to it; `key_variable` is where the key was looked for."""

    url: str
    key: str | None = field(repr=False)
    key_variable: str

    @property
    def host(self) -> str:
        """What to call it in a sentence."""
        return urlsplit(self.url).netloc


def address_of(url: str, key_variable: str) -> Address:
    """Return the address that a user wrote, its key read from the environment.

    Raises:
        UsageError: It is no address, or a key would be sent in the clear.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query:
        raise UsageError(f"`{url}` is no address of a server", hint="write https://HOST/v1")
    path = parts.path.rstrip("/") or "/v1"
    key = os.environ.get(key_variable, "").strip() or None
    if key is not None and parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"the key in `{key_variable}` would travel to `{host}` in the clear",
            hint="use https://, a tunnel to that machine, or unset the variable",
        )
    return Address(f"{parts.scheme}://{parts.netloc}{path}", key, key_variable)


class NotThere(RemoteError):
    """There is no such thing on the other side."""


class Unheard(RemoteError):
    """The answer to what must not arrive twice was lost."""


class NotTaken(RemoteError):
    """The other side cannot do anything with what was sent."""


_KINDS: dict[int, type[RemoteError]] = {400: NotTaken, 404: NotThere, 413: NotTaken, 422: NotTaken}


class Service:
    """An open connection to a server."""

    def __init__(self, address: Address, sink: Sink, patience_s: float = _PATIENCE_S) -> None:
        self.address = address
        self._sink = sink
        self._patience_s = patience_s
        headers = {"authorization": f"Bearer {address.key}"} if address.key else {}
        self._has_answered = False
        # A proxy knows no way to this machine. Redirects are not followed: they could lead the
        # key elsewhere.
        is_here = is_loopback(urlsplit(address.url).hostname or "")
        self._web = httpx2.Client(headers=headers, timeout=_TIMEOUT, trust_env=not is_here)

    def close(self) -> None:
        """Let the connection go."""
        self._web.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return an object."""
        return self._object(lambda: self._web.get(self._url(path), params=params or None))

    def find(self, path: str) -> dict[str, Any] | None:
        """Return an object; None where there is no such thing."""
        with contextlib.suppress(NotThere):
            return self.get(path)
        return None

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send an object, again where the connection drops, and return the answer."""
        return self._object(lambda: self._web.post(self._url(path), json=dict(body)))

    def post_once(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send an object that must not arrive twice.

        Raises:
            Unheard: The connection dropped, so nobody knows whether it arrived.
        """

        def send() -> httpx2.Response:
            try:
                return self._web.post(self._url(path), json=dict(body))
            except httpx2.TransportError as error:
                away = self._away(error)
                raise Unheard(away.message, hint=away.hint) from error

        return self._object(send)

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Send an object, and yield those of the answer as they come; it is asked for once.

        Raises:
            RemoteError: It is refused, fails on the way, or breaks off.
        """
        try:
            with self._web.stream("POST", self._url(path), json=dict(body)) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                for line in answer.iter_lines():
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    if line.startswith("data:"):
                        yield self._event(data)
        except httpx2.TransportError as error:
            raise self._away(error) from error
        hint = "ask again; its log says more"
        raise RemoteError(f"`{self.address.host}` broke its answer off", hint=hint)

    def _event(self, data: str) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError as error:
            raise self._odd() from error
        if not isinstance(found, dict):
            raise self._odd()
        if "error" in found:
            told = found["error"]
            said = told.get("message") if isinstance(told, dict) else told
            raise RemoteError(f"`{self.address.host}` failed: {said}", hint="see its log")
        return found

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield all that a list holds, page by page."""
        after: dict[str, Any] = {}
        while True:
            page = self.get(path, **params, **after)
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
                raise self._odd()
            yield from data
            if not data or not page.get("has_more"):
                return
            after = {"after": data[-1].get("id")}

    def upload(self, path: Path, name: str, purpose: str) -> dict[str, Any]:
        """Send a file, and return what the server made of it."""

        def send() -> httpx2.Response:
            with _Told(path, name, self._sink) as file:
                parts = {"file": (name, file, "application/octet-stream")}
                return self._web.post(self._url("/files"), files=parts, data={"purpose": purpose})

        return self._object(send)

    def read(self, path: str) -> bytes | None:
        """Return the bytes at a path; None where there is no such thing."""
        with contextlib.suppress(NotThere):
            return self._asked(lambda: self._web.get(self._url(path))).content
        return None

    def download(self, path: str, to: Path, size: int) -> None:
        """Write the bytes at a path to a file; go on where the connection dropped."""

        def fetch() -> httpx2.Response:
            done = to.stat().st_size if to.exists() else 0
            headers = {"range": f"bytes={done}-"} if done else {}
            with self._web.stream("GET", self._url(path), headers=headers) as answer:
                if answer.status_code not in (200, 206):
                    answer.read()
                    return answer
                is_part = answer.status_code == 206
                with to.open("ab" if is_part else "wb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        file.write(chunk)
                        if size > _LONG_BYTES:
                            self._sink(Progress(f"fetching {to.name}", file.tell(), size))
            return answer

        if size and to.exists() and to.stat().st_size >= size:
            to.unlink()
        self._asked(fetch)

    def _url(self, path: str) -> str:
        return self.address.url + path

    def _object(self, ask: Callable[[], httpx2.Response]) -> dict[str, Any]:
        answer = self._asked(ask)
        try:
            found = answer.json()
        except ValueError as error:
            raise self._odd() from error
        if not isinstance(found, dict):
            raise self._odd()
        return found

    def _asked(self, ask: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Return the answer to a request, asked again as long as that may help.

        A server that has never answered is not waited for.

        Raises:
            RemoteError: It is refused, or the server stays away.
        """
        begin, pause_s, is_told = time.monotonic(), 0.5, False
        while True:
            try:
                answer = ask()
            except httpx2.TransportError as error:
                failure, wait_s = self._away(error), pause_s
            except httpx2.HTTPError as error:
                raise self._away(error) from error
            else:
                self._has_answered = True
                if answer.is_success:
                    return answer
                failure = self._refused(answer)
                if not _may_help(answer):
                    raise failure
                wait_s = max(_said_wait_s(answer), pause_s)
            patience_s = self._patience_s if self._has_answered else 0.0
            if time.monotonic() + wait_s > begin + patience_s:
                raise failure
            if not is_told:
                is_told = True
                self._sink(Noted(f"{failure.message}; trying again"))
            time.sleep(wait_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _away(self, error: Exception) -> RemoteError:
        reason = str(error).strip() or type(error).__name__
        hint = "check the address and the network, and whether the server is up"
        return RemoteError(f"`{self.address.host}` does not answer: {reason}", hint=hint)

    def _odd(self) -> RemoteError:
        hint = "check the address: it is that of an API, and mostly ends with /v1"
        return RemoteError(f"`{self.address.host}` does not speak OpenAI's API", hint=hint)

    def _refused(self, answer: httpx2.Response) -> RemoteError:
        host, status, text = self.address.host, answer.status_code, said(answer)
        variable = self.address.key_variable
        if status == 401:
            what = "does not take the key" if self.address.key else "asks for a key"
            hint = f"put the right one into the environment variable `{variable}`"
            return RemoteError(f"`{host}` {what}", hint=hint)
        hints = {
            404: "check the name, and the address: it mostly ends with /v1",
            429: "come back later, or ask for less at once",
        }
        hint = hints.get(status, "see what it says, and its log")
        kind = _KINDS.get(status, RemoteError)
        return kind(f"`{host}` says {status}: {text}", hint=hint)


class _Told(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, name: str, sink: Sink) -> None:
        super().__init__(path, "rb")
        self._name, self._sink, self._size = name, sink, path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(-1 if size is None else size) or b""
        if self._size > _LONG_BYTES:
            self._sink(Progress(f"sending {self._name}", self.tell(), self._size))
        return found


def _may_help(answer: httpx2.Response) -> bool:
    """Say whether the same request may be answered otherwise in a while."""
    if answer.headers.get("x-should-retry") in ("true", "false"):
        return bool(answer.headers["x-should-retry"] == "true")
    return answer.status_code in _AGAIN and _NEVER_BETTER not in answer.text


def _said_wait_s(answer: httpx2.Response) -> float:
    try:
        return min(float(answer.headers.get("retry-after", 0)), 3600.0)
    except ValueError:  # a date
        return _LONGEST_PAUSE_S


def said(answer: httpx2.Response) -> str:
    """Return what an error says, in OpenAI's shape or another."""
    try:
        error = answer.json()["error"]
        found = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        found = answer.text
    text = " ".join(str(found).split())[:500]
    return text or answer.reason_phrase
