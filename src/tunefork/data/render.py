"""Conversation to token ids with one loss weight each, and token ids back to an answer.

Training, evaluation, serving and monitoring all render here, so that a model meets in use
exactly what it was trained on.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tunefork.core.errors import DataError, Where
from tunefork.core.hashing import hash_json
from tunefork.data._spans import Span, SpanFinder
from tunefork.data.example import Example, Message
from tunefork.data.template import DEFAULT_TEMPLATE, ChatTemplate
from tunefork.data.tokenizer import Encoded, Tokenizer

How = Literal["stop", "length"]


@dataclass(frozen=True)
class Rendered:
    """One row: `ids` and `weights`, both (n_tokens,).

    `weights[t]` is the loss weight of predicting token t from those before it.
    """

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True)
class Draft:
    """A conversation as text, before it is cut into tokens."""

    text: str
    spans: tuple[Span, ...]  # the trained turns, in order

    def rendered(self, encoded: Encoded) -> Rendered:
        """Give each token the weight of the span in which it begins, else 0."""
        ids = encoded.ids
        weights = [0.0] * len(ids)
        end = 0
        for span in self.spans:
            begin = max(end, encoded.first_from(span.begin))
            end = max(begin, encoded.first_from(span.end))
            weights[begin:end] = [span.weight] * (end - begin)
        return Rendered(ids, weights)


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
        draft = self.draft(example)
        return draft.rendered(self._encode(draft.text, example.where))

    def draft(self, example: Example) -> Draft:
        """Return a conversation's text, and where in it the trained turns lie.

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
        return Draft(text, tuple(spans))

    def document(self, text: str) -> Draft:
        """Return a text as a base is trained on it: no turns, and all of it trained.

        The tokenizer's begin token stands before it where it adds one, its end token behind it.
        """
        begin = (self.tokenizer.bos_token or "") if self.tokenizer.adds_bos else ""
        whole = begin + text + (self.tokenizer.eos_token or "")
        return Draft(whole, (Span(len(begin), len(whole), 1.0),))

    def opening(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], where: Where
    ) -> Draft:
        """Return the text after which the model writes its answer; nothing of it is trained.

        Raises:
            DataError: where the template refuses the conversation.
        """
        turns = [message.as_template() for message in messages]
        text = self.template.render(turns, tools=tools, where=where, add_generation_prompt=True)
        return Draft(text, ())

    def encode_drafts(
        self, drafts: Sequence[Draft], places: Sequence[Where]
    ) -> list[Rendered | DataError]:
        """Return what `render` returns for each, or raises; other threads go on meanwhile."""
        try:
            encoded = self.tokenizer.encode_all([draft.text for draft in drafts])
        except (TypeError, UnicodeError):  # one of them holds half a character
            return [self._encode_one(*pair) for pair in zip(drafts, places, strict=True)]
        return [draft.rendered(found) for draft, found in zip(drafts, encoded, strict=True)]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides how a conversation is rendered."""
        return hash_json([self.tokenizer.fingerprint(), *self.template.identity()])

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()
    ) -> list[int]:
        """Return the ids after which the model writes its answer.

        Raises:
            DataError: where the template refuses the conversation.
        """
        turns = [message.as_template() for message in messages]
        text = self.template.render(turns, tools=tools, add_generation_prompt=True)
        return self._encode(text).ids

    def parse(self, ids: Sequence[int]) -> tuple[str, How]:
        """Return the answer in ids that a model wrote, and whether it ended or was cut off."""
        for at, token_id in enumerate(ids):
            if token_id in self.end_ids:
                return self.tokenizer.decode(ids[:at]).strip(), "stop"
        return self.tokenizer.decode(ids).strip(), "length"

    def _encode_one(self, draft: Draft, where: Where) -> Rendered | DataError:
        try:
            return draft.rendered(self._encode(draft.text, where))
        except DataError as error:
            return error

    def _encode(self, text: str, where: Where | None = None) -> Encoded:
        try:
            return self.tokenizer.encode_with_places(text)
        except (TypeError, UnicodeError) as error:  # half of a surrogate pair
            raise DataError(
                "the text holds half a character, which no UTF-8 text can hold",
                where=where,
                hint="write the character whole, or remove the `\\ud…` escape",
            ) from error
