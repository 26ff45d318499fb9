"""A request of ours as vLLM's `/v1/completions` takes it, and its chunks as pieces of an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from tunefork.core.errors import InputError
from tunefork.data import Renderer
from tunefork.inference.engine import (
    Alternative,
    Constraint,
    Piece,
    Request,
    TokenLogProb,
    Usage,
)

Ended = Literal["stop", "length"]
_FORMATS_SINCE = (0, 11)  # before, vLLM ignores the parameter in silence
_TOKEN = "token_id:"


def completion_body(
    request: Request, model: str, renderer: Renderer, version: tuple[int, ...]
) -> dict[str, Any]:
    """Return the body of a request; what vLLM would take from the model's own defaults is said.

    Raises:
        InputError: The answer is to have a form that this engine cannot be held to.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(request.prompt),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
        "stop_token_ids": sorted(renderer.end_ids),
        "stream": True,
        "stream_options": {"include_usage": True},
        # Cached prompts are found by their owner alone.
        "cache_salt": hashlib.sha256(f"tunefork {request.owner}".encode()).hexdigest(),
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if sampling.n_logprobs is not None:
        body |= {"logprobs": sampling.n_logprobs, "return_tokens_as_token_ids": True}
    if sampling.constraint is not None:
        body["structured_outputs"] = {"json": _schema(sampling.constraint, version)}
    return body


def _schema(constraint: Constraint, version: tuple[int, ...]) -> dict[str, Any]:
    found = json.loads(constraint.grammar)["grammars"][0]["json_schema"]
    if found is None or version < _FORMATS_SINCE:
        raise InputError(
            "this engine cannot be held to a form of the answer",
            hint="ask without a format, or use vLLM 0.11 or later",
        )
    return {name: value for name, value in found.items() if name != "x-guidance"}


def piece_of(chunk: Mapping[str, Any], renderer: Renderer, n_logprobs: int | None) -> Piece | None:
    """Return what a chunk says; None where it says nothing of the answer."""
    choices = chunk.get("choices") or []
    if not choices:
        return None
    choice = choices[0]
    reason = choice.get("finish_reason")
    ended: Ended | None = None
    if reason is not None:
        ended = "length" if reason == "length" else "stop"
    tokens = _tokens(choice.get("logprobs"), renderer, n_logprobs) if n_logprobs is not None else ()
    return Piece(str(choice.get("text") or ""), tokens, ended)


def _tokens(found: Any, renderer: Renderer, most: int) -> tuple[TokenLogProb, ...]:
    """Return the tokens of a chunk, each with the likeliest others."""
    if not found:
        return ()
    tops = found.get("top_logprobs") or [{}] * len(found["tokens"])
    told = []
    for token, logprob, top in zip(found["tokens"], found["token_logprobs"], tops, strict=True):
        others = sorted((top or {}).items(), key=lambda pair: -float(pair[1]))[:most]
        alternatives = tuple(_alternative(name, value, renderer) for name, value in others)
        drawn = _alternative(token, logprob, renderer)
        told.append(TokenLogProb(drawn.id, drawn.text, drawn.bytes, drawn.logprob, alternatives))
    return tuple(told)


def _alternative(name: str, logprob: float, renderer: Renderer) -> Alternative:
    number = int(name.removeprefix(_TOKEN))
    text = renderer.tokenizer.decode([number])
    return Alternative(number, text, text.encode(), float(logprob))


def note_usage(chunk: Mapping[str, Any], usage: Usage) -> None:
    """Write down what the engine says that the answer took."""
    found = chunk.get("usage")
    if isinstance(found, Mapping):
        usage.completion_tokens = int(found.get("completion_tokens") or 0)
        details = found.get("prompt_tokens_details") or {}
        usage.cached_tokens = int(details.get("cached_tokens") or 0)
