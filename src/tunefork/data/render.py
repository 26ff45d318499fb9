"""Conversation to token ids with one loss weight each, and token ids back to an answer.

Training, evaluation, serving and monitoring all render here, so that a model meets in use
exactly what it was trained on.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunefork.core.errors import DataError, Where
from tunefork.data._spans import Span, SpanFinder
from tunefork.data.example import Example, Message
from tunefork.data.template import DEFAULT_TEMPLATE, ChatTemplate
from tunefork.data.tokenizer import Tokenizer

How = Literal["stop", "length"]


@dataclass(frozen=True)
class Rendered:
    """One row: `ids` and `weights`, both (n_tokens,).

    `weights[t]` is the loss weight of predicting token t from those before it.
    """

    ids: list[int]
    weights: list[float]


class Renderer:
    """Render with a tokenizer's chat template, or with the default one where it has none.

    `date` is what the template takes for today; it defaults to today.
    """

    def __init__(self, tokenizer: Tokenizer, date: datetime.date | None = None) -> None:
        self.tokenizer = tokenizer
        source = tokenizer.chat_template
        variables: dict[str, object] = dict(tokenizer.special_tokens)
        if source is None:
            variables["adds_bos"] = tokenizer.adds_bos
        self.template = ChatTemplate(
            DEFAULT_TEMPLATE if source is None else source,
            special_tokens=variables,
            date=date or datetime.date.today(),
        )
        self._spans = SpanFinder(self.template, tokenizer)
        self.end_ids: frozenset[int] = self._spans.end_ids

    def render(self, example: Example) -> Rendered:
        """Return a whole conversation; trained are the assistant's turns and what ends them.

        Raises:
            DataError: where the template refuses the conversation.
        """
        turns = [message.as_template() for message in example.messages]
        tools, where = example.tools, example.where
        text = self.template.render(turns, tools=tools, where=where)
        spans = [
            self._spans.find(text, turns, index, message.weight, tools, where)
            for index, message in enumerate(example.messages)
            if message.role == "assistant" and message.weight > 0
        ]
        ids, offsets = self._encode(text, where)
        return Rendered(ids, _weights(offsets, spans))

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> list[int]:
        """Return the ids after which the model writes its answer.

        Raises:
            DataError: where the template refuses the conversation.
        """
        turns = [message.as_template() for message in messages]
        return self._encode(self.template.render(turns, tools=tools, add_generation_prompt=True))[0]

    def parse(self, ids: Sequence[int]) -> tuple[str, How]:
        """Return the answer in ids that a model wrote, and whether it ended or was cut off."""
        for at, token_id in enumerate(ids):
            if token_id in self.end_ids:
                return self.tokenizer.decode(ids[:at]).strip(), "stop"
        return self.tokenizer.decode(ids).strip(), "length"

    def _encode(
        self, text: str, where: Where | None = None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        try:
            return self.tokenizer.encode_with_offsets(text)
        except (TypeError, UnicodeError) as error:  # half of a surrogate pair
            raise DataError(
                "the text holds half a character, which no UTF-8 text can hold",
                where=where,
                hint="write the character whole, or remove the `\\ud…` escape",
            ) from error


def _weights(offsets: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[float]:
    """Return each token's weight: that of the span in which the token begins, else 0."""
    weights = [0.0] * len(offsets)
    at, n_tokens = 0, len(offsets)
    for span in spans:
        while at < n_tokens and offsets[at][0] < span.begin:
            at += 1
        while at < n_tokens and offsets[at][0] < span.end:
            weights[at] = span.weight
            at += 1
    return weights
