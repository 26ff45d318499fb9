"""Ask a model behind an OpenAI-compatible server, as a yardstick. Off unless the user names one.

What it is sent: the golden questions, and the goal as system prompt; no row of the training data.
The key is taken from `OPENAI_API_KEY` where it is set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunefork.core.errors import RemoteError
from tunefork.core.events import Sink
from tunefork.workflow.compare_answers import Conversation, Said
from tunefork.workflow.service import Address, Service, address_of

_KEY_VARIABLE = "OPENAI_API_KEY"
_PATIENCE_S = 60.0  # the rest of the ladder waits


@dataclass(frozen=True)
class Reference:
    """A model on a server; without a name, the first that the server lists."""

    address: Address
    model: str | None = None

    @contextlib.contextmanager
    def open(self, sink: Sink) -> Iterator[ReferenceModel]:
        """Connect to the server while open.

        Raises:
            RemoteError: The server cannot be reached, or lists no model.
        """
        with contextlib.closing(Service(self.address, sink, _PATIENCE_S)) as service:
            yield ReferenceModel(service, self.model or _first_model(service))


@dataclass(frozen=True)
class ReferenceModel:
    """A model on a server that is connected to."""

    service: Service
    name: str

    def ask(self, conversations: Sequence[Conversation], most_tokens: int) -> list[Said]:
        """Answer conversations, one after the other.

        Raises:
            RemoteError: The server cannot be reached, is too slow, or answers something else.
        """
        return [self._ask(each, most_tokens) for each in conversations]

    def _ask(self, conversation: Conversation, most_tokens: int) -> Said:
        body = {
            "model": self.name,
            "messages": [{"role": turn.role, "content": turn.content} for turn in conversation],
            "temperature": 0,
            "max_tokens": most_tokens,
        }
        found = self.service.post("/chat/completions", body)
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
            raise _failed(self.service, "answered with no chat completion") from error


def reference_at(url: str, model: str | None) -> Reference:
    """Return the model on a server.

    Raises:
        UsageError: The address is none of a server, or the key would be sent in the clear.
    """
    return Reference(address_of(url, _KEY_VARIABLE), model)


def _first_model(service: Service) -> str:
    listed = service.get("/models")
    try:
        return str(listed["data"][0]["id"])
    except (LookupError, TypeError) as error:
        reason = "lists no model; name one with `--reference-model`"
        raise _failed(service, reason) from error


def _failed(service: Service, reason: str) -> RemoteError:
    hint = "check the address, or leave out `--reference`"
    return RemoteError(f"`{service.address.host}` {reason}", hint=hint)
