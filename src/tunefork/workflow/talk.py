"""`chat`: a conversation with a model, and with its base beside it."""

from __future__ import annotations

from typing import Any

from tunefork.data import Message
from tunefork.inference import ChatModel, Decoding
from tunefork.workflow.opened import open_model

_DECODING = Decoding(max_new_tokens=256)


class Conversation:
    """What was said so far; tuned and base model each remember their own answers."""

    def __init__(self, name: str) -> None:
        self._opened = open_model(name)
        self._name = name
        self._tuned: list[Message] = []
        self._base: list[Message] = []

    def ask(self, question: str) -> dict[str, Any]:
        """Return the model's answer, and its base's where the model is tuned."""
        answer = _answer(self._opened.chat, self._tuned, question)
        base = None
        if self._opened.is_tuned:
            with self._opened.base_chat() as chat:
                base = _answer(chat, self._base, question)
        return {"model": self._name, "question": question, "answer": answer, "base": base}

    def clear(self) -> None:
        """Forget what was said."""
        self._tuned.clear()
        self._base.clear()


def _answer(chat: ChatModel, said: list[Message], question: str) -> str:
    said.append(Message("user", question))
    text = chat.answer([said], _DECODING)[0].text
    said.append(Message("assistant", text))
    return text
