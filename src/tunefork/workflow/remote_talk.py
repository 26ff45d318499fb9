"""`chat --server`: a conversation with a model of another server, its answers as they come."""

from __future__ import annotations

from collections.abc import Iterator

from tunefork.core.errors import RemoteError, UsageError
from tunefork.workflow.service import Service

_MOST_NAMED = 12


class RemoteConversation:
    """What was said so far to one model."""

    def __init__(self, service: Service, model: str) -> None:
        self._service = service
        self._model = model
        self._said: list[dict[str, str]] = []

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer piece by piece; what failed is as if it had not been asked.

        Raises:
            RemoteError: The server refuses, fails, or goes away.
        """
        messages = [*self._said, {"role": "user", "content": question}]
        body = {"model": self._model, "messages": messages, "stream": True}
        pieces = []
        for chunk in self._service.stream("/chat/completions", body):
            for choice in chunk.get("choices") or []:
                piece = (choice.get("delta") or {}).get("content")
                if piece:
                    pieces.append(piece)
                    yield piece
        self._said = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def clear(self) -> None:
        """Forget what was said."""
        self._said = []


def named_model(service: Service, model: str | None) -> str:
    """Return the model that is meant.

    Raises:
        UsageError: None was named; it says which there are.
    """
    if model is not None:
        return model
    try:
        names = [str(each["id"]) for each in service.get("/models")["data"]]
    except (KeyError, TypeError) as error:
        raise RemoteError("the server lists no models", hint="name one with `--model`") from error
    more = ", …" if len(names) > _MOST_NAMED else ""
    raise UsageError(
        "no model is named", hint=f"add `--model`; there are {', '.join(names[:_MOST_NAMED])}{more}"
    )
