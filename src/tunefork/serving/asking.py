"""Ask a model from inside of the server: for graders that need one, and for evals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import TuneforkError
from tunefork.data import Message
from tunefork.graders import AskModel
from tunefork.graders.grade import Failure
from tunefork.inference.engine import Ticket
from tunefork.serving.allowance import Allowance
from tunefork.serving.answering import Asked, Opened, Wanted, submit
from tunefork.serving.catalogue import Catalogue
from tunefork.serving.errors import ApiError, not_found
from tunefork.serving.meters import UsedUpError

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
    """Asks models for one caller, and waits; for any thread but the event loop's.

    Attributes:
        catalogue: The models.
        allowed: Who asks, and how much there may be of an answer.
        usual_model: What graders ask that name no model.
        wait: Waits so many seconds where the caller's tokens are used up, and says whether to go
            on; None gives up at once.
    """

    catalogue: Catalogue
    allowed: Allowance
    usual_model: str | None = None
    wait: Callable[[float], bool] | None = None

    def open(self, name: str) -> Opened:
        """Return a model, loaded.

        Raises:
            ApiError: There is none.
            TuneforkError: It cannot be loaded.
        """
        model = self.catalogue.find(self.allowed.caller.owner, name)
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
        room = (opened.host.max_length or self.allowed.limits.completion_tokens) - len(prompt)
        wanted = Wanted(
            max_tokens=max(1, min(given or _USUAL_TOKENS, room)),
            temperature=sampling.get("temperature"),
            top_p=sampling.get("top_p"),
            seed=sampling.get("seed"),
        )
        asked = self._submitted(opened, prompt, wanted)
        try:
            return _read(asked.tickets[0])
        finally:
            asked.cancel()

    def _submitted(self, opened: Opened, prompt: Sequence[int], wanted: Wanted) -> Asked:
        while True:
            try:
                return submit(opened, [prompt], wanted, self.allowed)
            except UsedUpError as error:
                if self.wait is None or not self.wait(error.wait_s):
                    raise

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
