"""A loaded model together with its renderer: conversations in, answers and scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tunefork.data import Example, Message, Rendered, Renderer, TokenRows
from tunefork.inference.generate import Decoding, generate
from tunefork.inference.score import RowScore, score_rows

_SYSTEM = ("system", "developer")  # the same to OpenAI's newer models


@dataclass(frozen=True)
class Answer:
    """What a model answered, and how its answer ended."""

    text: str
    ended: Literal["stop", "length"]
    prompt_tokens: int = 0
    tokens: int = 0  # of the answer, without the one that ends it


def join(before: Sequence[Message], messages: Sequence[Message]) -> tuple[Message, ...]:
    """Put a conversation behind what stands before it, none of which is scored.

    Chat templates take one system turn, the first: two become one, with an empty line between.
    """
    if not before:
        return tuple(messages)
    parts = ([replace(turn, weight=0.0) for turn in before], list(messages))
    systems = [part.pop(0) for part in parts if part and part[0].role in _SYSTEM]
    if systems:
        content = "\n\n".join(turn.content for turn in systems)
        systems = [replace(systems[0], content=content)]
    return (*systems, *parts[0], *parts[1])


@dataclass(frozen=True)
class ChatModel:
    """One model that people talk to.

    Attributes:
        model: What `load_model` returned, adapter attached or not.
        renderer: Makes tokens of conversations.
        max_length: The longest row it can take, in tokens.
        before: What stands before each conversation: a system prompt, examples to follow.
        look_up: Puts into each conversation what was looked up for it: passages, like examples.
    """

    model: Any
    renderer: Renderer
    max_length: int | None
    before: tuple[Message, ...] = ()
    look_up: Callable[[Sequence[Message]], Sequence[Message]] | None = None

    def behind(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return a conversation as the model gets it."""
        found = self.look_up(messages) if self.look_up is not None else messages
        return join(self.before, found)

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        decoding: Decoding,
        *,
        on_answer: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Answer each conversation.

        Args:
            conversations: Messages up to the answer.
            decoding: How to draw tokens.
            on_answer: Told how many answers are complete.
        """
        prompts = [self.renderer.prompt(self.behind(messages)) for messages in conversations]
        found = generate(
            self.model,
            prompts,
            self.renderer.end_ids,
            decoding,
            max_length=self.max_length,
            on_answer=on_answer,
        )
        return [
            Answer(self.renderer.parse(row.ids)[0], row.ended, len(prompt), len(row.ids))
            for prompt, row in zip(prompts, found, strict=True)
        ]

    def score(
        self, examples: Sequence[Example], *, on_rows: Callable[[int], None] | None = None
    ) -> list[RowScore]:
        """Score the trained tokens of each example, in order; rows too long are cut."""
        rows = [replace(each, messages=self.behind(each.messages)) for each in examples]
        rendered = [self._cut(self.renderer.render(row)) for row in rows]
        return score_rows(self.model, TokenRows.from_rendered(rendered), on_rows=on_rows)

    def _cut(self, row: Rendered) -> Rendered:
        return Rendered(row.ids[: self.max_length], row.weights[: self.max_length])
