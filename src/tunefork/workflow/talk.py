"""`chat`: a conversation with a model, and with its base beside it."""

from __future__ import annotations

from typing import Any

from tunefork.data import Message
from tunefork.inference import ChatModel, Classifier, Decoding
from tunefork.workflow.opened import open_model


class Conversation:
    """What was said so far; tuned and base model each remember their own answers."""

    def __init__(self, name: str) -> None:
        self._opened = open_model(name)
        self._name = name
        self._tuned: list[Message] = []
        self._base: list[Message] = []

    def ask(self, question: str) -> dict[str, Any]:
        """Return the model's answer, and its base's where the model is more than that."""
        decoding = self._opened.decoding
        answer = _answer(self._opened.chat, self._tuned, question, decoding)
        base = None
        if not self._opened.is_base:
            with self._opened.base_chat() as chat:
                base = _answer(chat, self._base, question, decoding)
        return {"model": self._name, "question": question, "answer": answer, "base": base}

    def clear(self) -> None:
        """Forget what was said."""
        self._tuned.clear()
        self._base.clear()


def _answer(chat: ChatModel, said: list[Message], question: str, decoding: Decoding) -> str:
    if isinstance(chat, Classifier):  # it looks at each text alone
        return str(chat.classify([[Message("user", question)]])[0])
    said.append(Message("user", question))
    text = chat.answer([said], decoding)[0].text
    said.append(Message("assistant", text))
    return text
