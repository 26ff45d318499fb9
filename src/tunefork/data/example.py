"""What a row of data becomes, whatever file format it came in, and its place.

    Example      a conversation                          learned by sft
    Preference   a prompt, a better and a worse answer   dpo
    Judged       a prompt and an answer, good or not     kto
    Labelled     a text and its label                    classify
    Text         a text                                  pretrain
    Prompt       a conversation to go on with            grpo, ppo

Each is frozen and has a `kind`, so that an objective can say which kinds it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from tunefork.core.errors import Where

Kind = Literal["chat", "preference", "judged", "labelled", "text", "prompts"]


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

    kind: ClassVar[Kind] = "chat"

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


@dataclass(frozen=True)
class Preference:
    """One row: a conversation so far, and two ways to go on, of which the first is better.

    Both ways begin with an assistant turn; mostly they are just that.
    """

    kind: ClassVar[Kind] = "preference"

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    where: Where
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Judged:
    """One row: a conversation so far, an answer, and whether the answer is good."""

    kind: ClassVar[Kind] = "judged"

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    is_good: bool
    where: Where
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Labelled:
    """One row: a text and the name of its label.

    `listed` are the names where the row lists them, and `label` is then all of them as one text,
    empty where there is none.
    """

    kind: ClassVar[Kind] = "labelled"

    text: str
    label: str
    where: Where
    listed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Text:
    """One row: a text."""

    kind: ClassVar[Kind] = "text"

    text: str
    where: Where


@dataclass(frozen=True)
class Prompt:
    """One row: a conversation so far, and what is known of a good answer.

    `item` holds the row's other columns, which graders call `item`; their inside is untyped.
    """

    kind: ClassVar[Kind] = "prompts"

    messages: tuple[Message, ...]
    where: Where
    item: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages."""
        return self.messages


Row = Example | Preference | Judged | Labelled | Text | Prompt
