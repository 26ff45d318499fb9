"""vLLM's HTTP API, as far as it is needed: what it holds, adapters at run time, completions.

Adapters are loaded by `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, which a vLLM has that
was started with `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`. Prompts are sent as
tokens, so that the template is ours, as in training.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tunefork.core.errors import Busy, InputError, RemoteError
from tunefork.workflow.service import Address, said

_CONNECT_S, _SHORT_S = 5.0, 30.0
_TOKEN_S = 120.0  # to the next token: a prompt may wait in the engine's queue
_LOAD_S = 120.0
_HINT = "it is asked again by itself"
_NO_RUNTIME = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


class Gone(RemoteError):
    """The engine knows no such model, or no such adapter any more."""


@dataclass(frozen=True)
class Held:
    """A model that the engine holds; `parent` is the base of an adapter."""

    id: str
    root: str
    parent: str | None
    max_length: int | None


class VllmClient:
    """Asks one vLLM; on the event loop that it is made for."""

    def __init__(self, address: Address) -> None:
        headers = {"authorization": f"Bearer {address.key}"} if address.key else {}
        self._root = address.url.removesuffix("/v1")
        timeout = httpx2.Timeout(_SHORT_S, connect=_CONNECT_S)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._web = httpx2.AsyncClient(
            headers=headers, timeout=timeout, limits=limits, trust_env=False
        )

    async def close(self) -> None:
        """Let all connections go."""
        await self._web.aclose()

    async def held(self) -> list[Held]:
        """Return what the engine holds.

        Raises:
            RemoteError: It is not there.
        """
        answer = await self._send("GET", "/v1/models")
        try:
            return [
                Held(
                    str(each["id"]),
                    str(each.get("root") or each["id"]),
                    each.get("parent"),
                    each.get("max_model_len"),
                )
                for each in answer.json()["data"]
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise RemoteError("the engine lists no models", hint=_HINT) from error

    async def version(self) -> tuple[int, ...]:
        """Return its version; nothing where it does not say."""
        try:
            text = str((await self._send("GET", "/version")).json()["version"])
            return tuple(int(part) for part in text.split(".")[:2])
        except (RemoteError, InputError, ValueError, LookupError, TypeError):
            return ()

    async def load(self, name: str, folder: Path) -> None:
        """Load an adapter; one that is there already is left as it is.

        Raises:
            InputError: The engine refuses it.
            RemoteError: It is not there.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._send("POST", "/v1/load_lora_adapter", body, _LOAD_S)
        except Gone as error:
            if '"detail"' in error.message:  # there is no such endpoint
                raise InputError(
                    "the engine takes no adapters at run time", hint=_NO_RUNTIME
                ) from error
            raise InputError(
                "the engine does not find the adapter's files",
                hint="let both machines see the home folder at the same place",
            ) from error
        except InputError as error:
            if "already been loaded" not in error.message:
                raise

    async def unload(self, name: str) -> None:
        """Let an adapter go; one that is not there is gone already.

        Raises:
            RemoteError: The engine is not there.
        """
        try:
            await self._send("POST", "/v1/unload_lora_adapter", {"lora_name": name})
        except Gone:
            return

    async def complete(self, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a streamed completion.

        Raises:
            Gone: There is no such model.
            RemoteError: The engine is not there, failed, or broke off.
        """
        timeout = httpx2.Timeout(_TOKEN_S, connect=_CONNECT_S)
        url = self._root + "/v1/completions"
        try:
            async with self._web.stream("POST", url, json=dict(body), timeout=timeout) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refused(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        text = line.removeprefix("data:").strip()
                        if text == "[DONE]":
                            return
                        yield _chunk(text)
        except httpx2.HTTPError as error:
            raise _away(error) from error
        raise RemoteError("the engine broke its answer off", hint=_HINT)

    async def _send(
        self, method: str, path: str, body: object = None, timeout_s: float = _SHORT_S
    ) -> httpx2.Response:
        try:
            answer = await self._web.request(
                method,
                self._root + path,
                json=body,
                timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
            )
        except httpx2.HTTPError as error:
            raise _away(error) from error
        if not answer.is_success:
            raise _refused(answer)
        return answer


def _chunk(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RemoteError("the engine's stream is none", hint=_HINT)
    if "error" in found:
        error = found["error"]
        told = error.get("message") if isinstance(error, dict) else error
        raise RemoteError(f"the engine failed: {str(told)[:300]}", hint=_HINT)
    return found


def _away(error: Exception) -> RemoteError:
    return RemoteError(f"the engine does not answer ({type(error).__name__})", hint=_HINT)


def _refused(answer: httpx2.Response) -> RemoteError | InputError | Busy:
    status, text = answer.status_code, said(answer)
    if status == 404:
        return Gone(f"the engine says 404: {text}", hint=_HINT)
    if status in (429, 503):
        return Busy("the engine is busy", retry_after_s=2.0)
    if status in (401, 403):
        return RemoteError("the engine does not take the key", hint="see `--engine-key-env`")
    if status < 500:
        return InputError(f"the engine refuses it: {text}", hint="see what it says")
    return RemoteError(f"the engine failed: {text}", hint=_HINT)
