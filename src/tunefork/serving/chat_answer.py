"""The shape of what `/v1/chat/completions` answers, for the document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class Usage(BaseModel):
    """What an answer cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class TopLogProb(BaseModel):
    """One of the likeliest tokens."""

    token: str
    logprob: float
    bytes: list[int] | None


class LogProb(TopLogProb):
    """A token that was drawn."""

    top_logprobs: list[TopLogProb]


class LogProbs(BaseModel):
    """The tokens of an answer."""

    content: list[LogProb] | None
    refusal: None


class ChatAnswer(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[Any]
    tool_calls: list[dict[str, Any]] = []


class ChatChoice(BaseModel):
    """One of several answers."""

    index: int
    message: ChatAnswer
    logprobs: LogProbs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """Answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: Literal["default"]
    choices: list[ChatChoice]
    usage: Usage
