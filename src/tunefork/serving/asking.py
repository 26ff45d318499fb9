"""Ask a model from inside of the server: for graders that need one, and for evals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import TuneforkError
from tunefork.data import Message
from tunefork.graders import AskModel
from tunefork.graders.grade import Failure
from tunefork.inference.engine import Ticket
from tunefork.serving.answering import Opened, Wanted, cancel, submit
from tunefork.serving.catalogue import Catalogue
from tunefork.serving.errors import ApiError, not_found
from tunefork.serving.limits import Limits

_USUAL_TOKENS = 512


@dataclass(frozen=True)
class Said:
    """What a model answered, and what it cost."""

    text: str
    ended: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Asker:
    """Asks models for one owner, and waits; for any thread but the event loop's."""

    catalogue: Catalogue
    limits: Limits
    owner: str
    usual_model: str | None = None  # for graders that name none

    def open(self, name: str) -> Opened:
        """Return a model, loaded.

        Raises:
            ApiError: There is none.
            TuneforkError: It cannot be loaded.
        """
        model = self.catalogue.find(self.owner, name)
        if model is None or model.can_embed:
            raise not_found("model", name, "model")
        return Opened(model, self.catalogue.backend.host(model))

    def ask(self, name: str, messages: Sequence[Message], sampling: Mapping[str, Any]) -> Said:
        """Return a model's answer to a conversation.

        Raises:
            ApiError: It cannot be asked.
            TuneforkError: It cannot answer.
        """
        opened = self.open(name)
        prompt = opened.host.renderer.prompt(opened.model.conversation(messages))
        given = sampling.get("max_completion_tokens") or sampling.get("max_completions_tokens")
        room = (opened.host.max_length or self.limits.completion_tokens) - len(prompt)
        wanted = Wanted(
            max_tokens=max(1, min(given or _USUAL_TOKENS, room)),
            temperature=sampling.get("temperature"),
            top_p=sampling.get("top_p"),
            seed=sampling.get("seed"),
        )
        tickets = submit(opened, [prompt], wanted, self.owner, self.limits)
        try:
            return _read(tickets[0])
        finally:
            cancel(tickets)

    def answer_graders(self, asked: Sequence[AskModel]) -> list[str | Failure]:
        """Answer what graders ask; see `graders.Ask`."""
        return [self._answer(each) for each in asked]

    def _answer(self, asked: AskModel) -> str | Failure:
        name = asked.model or self.usual_model
        if name is None:
            return Failure("model_grader_server_error", "the grader names no model")
        messages = [Message(turn["role"], turn["content"]) for turn in asked.messages]
        try:
            return self.ask(name, messages, asked.sampling).text
        except ApiError as error:
            return Failure("model_grader_server_error", error.message)
        except TuneforkError as error:
            return Failure("model_grader_server_error", error.message)


def _read(ticket: Ticket) -> Said:
    pieces = list(ticket)
    text = "".join(piece.text for piece in pieces)
    ended = pieces[-1].ended or "length"
    return Said(text, ended, ticket.usage.prompt_tokens, ticket.usage.completion_tokens)
