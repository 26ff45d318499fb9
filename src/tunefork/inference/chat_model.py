"""A loaded model together with its renderer: conversations in, answers and scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunefork.data import Example, Message, Rendered, Renderer, TokenRows
from tunefork.inference.generate import Decoding, generate
from tunefork.inference.score import RowScore, score_rows


@dataclass(frozen=True)
class Answer:
    """What a model answered, and how its answer ended."""

    text: str
    ended: Literal["stop", "length"]


@dataclass(frozen=True)
class ChatModel:
    """One model that people talk to."""

    model: Any  # what `load_model` returned, adapter attached or not
    renderer: Renderer
    max_length: int | None  # the longest row it can take, in tokens

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
        found = generate(
            self.model,
            [self.renderer.prompt(messages) for messages in conversations],
            self.renderer.end_ids,
            decoding,
            max_length=self.max_length,
            on_answer=on_answer,
        )
        return [Answer(self.renderer.parse(row.ids)[0], row.ended) for row in found]

    def score(
        self, examples: Sequence[Example], *, on_rows: Callable[[int], None] | None = None
    ) -> list[RowScore]:
        """Score the trained tokens of each example, in order; rows too long are cut."""
        rendered = [self._cut(self.renderer.render(example)) for example in examples]
        return score_rows(self.model, TokenRows.from_rendered(rendered), on_rows=on_rows)

    def _cut(self, row: Rendered) -> Rendered:
        return Rendered(row.ids[: self.max_length], row.weights[: self.max_length])
