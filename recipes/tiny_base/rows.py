"""The shape of a training row, and helpers to build one."""

from __future__ import annotations

from typing import Any

Message = dict[str, str]
Row = dict[str, Any]


def user(text: str) -> Message:
    """A message of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


def row(kind: str, *messages: Message) -> Row:
    """A training row; its last message is always the assistant's."""
    return {"messages": list(messages), "kind": kind}


def pair(kind: str, question: str, answer: str) -> Row:
    """A training row of one question and one answer."""
    return row(kind, user(question), assistant(answer))
