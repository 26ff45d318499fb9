"""Log-probabilities of tokens, as the API tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunefork.inference.engine import TokenLogProb

_LEAST = -9999.0  # what the API says for a probability of nothing, which JSON cannot say


def chat_logprobs(tokens: Sequence[TokenLogProb]) -> dict[str, Any]:
    """Return them as chat completions tell them."""
    return {"content": [_token(token) for token in tokens], "refusal": None}


def _token(token: TokenLogProb) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": finite(token.logprob),
        "bytes": list(token.bytes),
        "top_logprobs": [
            {"token": each.text, "logprob": finite(each.logprob), "bytes": list(each.bytes)}
            for each in token.top
        ],
    }


def text_logprobs(tokens: Sequence[TokenLogProb], begin: int = 0) -> dict[str, Any]:
    """Return them as legacy completions tell them; `begin` is where the text begins."""
    offsets = []
    for token in tokens:
        offsets.append(begin)
        begin += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [finite(token.logprob) for token in tokens],
        "top_logprobs": [
            {each.text: finite(each.logprob) for each in token.top} for token in tokens
        ],
        "text_offset": offsets,
    }


def finite(logprob: float) -> float:
    """Return a number that JSON can hold."""
    return logprob if logprob > _LEAST else _LEAST
