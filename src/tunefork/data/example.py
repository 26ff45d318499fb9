"""What a row of data becomes, whatever file format it came in: a conversation and its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import Where


@dataclass(frozen=True)
class Message:
    """One turn. `weight` is the loss weight of an assistant turn; other turns are never trained.

    `tool_calls` holds OpenAI's objects as they stand in the row, so their inside is untyped.
    """

    role: str
    content: str
    weight: float = 1.0
    reasoning: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def as_template(self) -> dict[str, Any]:
        """Return what a chat template receives: keys that are not set are left out."""
        found: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            found["reasoning_content"] = self.reasoning
        if self.tool_calls:
            found["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            found["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            found["name"] = self.name
        return found


@dataclass(frozen=True)
class Example:
    """One row: a conversation with at least one assistant turn, and where it was read."""

    messages: tuple[Message, ...]
    where: Where
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last assistant turn."""
        return self.messages[: self._last_assistant()]

    @property
    def answer(self) -> str:
        """The text of the last assistant turn."""
        return self.messages[self._last_assistant()].content

    def _last_assistant(self) -> int:
        turns = [index for index, turn in enumerate(self.messages) if turn.role == "assistant"]
        assert turns, f"an example without an assistant turn was built: {self.where}"
        return turns[-1]
