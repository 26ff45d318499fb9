"""Ask a model behind an OpenAI-compatible server, as a yardstick. Off unless the user names one.

What it is sent: the golden questions, and the goal as system prompt; no row of the training data.
The key is taken from `OPENAI_API_KEY` where it is set.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import ModelError
from tunefork.workflow.compare_answers import Conversation, Said
from tunefork.workflow.service import address_of

_KEY_VARIABLE = "OPENAI_API_KEY"
_TIMEOUT_SECONDS = 60.0
_TRIES = 3
_FIRST_WAIT_SECONDS = 1.0  # doubled with each try
_PASSING = {408, 409, 429, 500, 502, 503, 504}  # states that may be over in a moment
_MOST_BYTES = 10_000_000  # of a reply


@dataclass(frozen=True)
class Reference:
    """A model on a server.

    Attributes:
        url: Up to `/v1`.
        model: What the server calls it; None takes the first that it lists.
        timeout_s: For one reply.
        wait: Sleeps between tries.
    """

    url: str
    model: str | None = None
    timeout_s: float = _TIMEOUT_SECONDS
    wait: Callable[[float], None] = time.sleep

    def named(self) -> Reference:
        """Return it with the name of its model.

        Raises:
            ModelError: The server cannot be reached, or lists no model.
        """
        if self.model is not None:
            return self
        listed = self._call("/models", None)
        try:
            name = str(listed["data"][0]["id"])
        except (LookupError, TypeError) as error:
            raise self._failed("it lists no model; name one with `--reference-model`") from error
        return Reference(self.url, name, self.timeout_s, self.wait)

    def ask(self, conversations: Sequence[Conversation], most_tokens: int) -> list[Said]:
        """Answer conversations, one after the other.

        Raises:
            ModelError: The server cannot be reached, is too slow, or answers something else.
        """
        return [self._ask(each, most_tokens) for each in conversations]

    def _ask(self, conversation: Conversation, most_tokens: int) -> Said:
        body = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in conversation],
            "temperature": 0,
            "max_tokens": most_tokens,
        }
        found = self._call("/chat/completions", body)
        try:
            choice = found["choices"][0]
            usage = found.get("usage") or {}
            return Said(
                str(choice["message"]["content"] or ""),
                str(choice.get("finish_reason") or "stop"),
                usage.get("prompt_tokens"),
                usage.get("completion_tokens"),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise self._failed("its reply is no chat completion") from error

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        wait = _FIRST_WAIT_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                return self._send(path, body)
            except urllib.error.HTTPError as error:
                reason = f"it refused with {error.code}: {_detail(error)}"
                if error.code not in _PASSING or not left:
                    raise self._failed(reason) from error
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    raise self._failed(self._reason(error)) from error
            except ValueError as error:
                raise self._failed("its reply is no JSON") from error
            self.wait(wait)
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _send(self, path: str, body: dict[str, Any] | None) -> Any:
        key = os.environ.get(_KEY_VARIABLE)
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
        )
        with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
            return json.loads(reply.read(_MOST_BYTES))

    def _reason(self, error: Exception) -> str:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            return f"no reply within {self.timeout_s:g} seconds, {_TRIES} times"
        return f"it cannot be reached: {cause}"

    def _failed(self, reason: str) -> ModelError:
        return ModelError(
            f"the reference server failed: {reason}",
            where=self.url,
            hint="check that it runs and the address, or leave out `--reference`",
        )


def reference_at(url: str, model: str | None) -> Reference:
    """Return the model on a server.

    Raises:
        UsageError: The address is none of a server, or the key would be sent in the clear.
    """
    return Reference(address_of(url, _KEY_VARIABLE).url, model)


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        found = json.loads(error.read(_MOST_BYTES))
        return str(found["error"]["message"])
    except (ValueError, LookupError, TypeError, OSError):
        return str(error.reason)
