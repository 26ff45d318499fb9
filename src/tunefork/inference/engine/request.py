"""What is asked of the engine, and what comes back: plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunefork.core.errors import InputError
from tunefork.inference.engine.constraint import Constraint

_MOST_STOPS = 4
_MOST_ALTERNATIVES = 20
Ended = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How one answer is drawn.

    Attributes:
        max_tokens: The most tokens of the answer.
        temperature: 0 takes the likeliest token each time.
        top_p: Nucleus sampling, Holtzman et al. 2019 (arXiv 1904.09751).
        seed: The same seed gives the same answer, whatever else is in the batch; by default one is
            drawn.
        stop: Texts that end the answer and are no part of it.
        n_logprobs: How many alternatives are told for each token; None tells no probabilities.
        logit_bias: What is added to the logits of some tokens, by id.
        presence_penalty: Taken off the logit of each token that the answer holds.
        frequency_penalty: Taken off it once more each time the answer holds it.
        constraint: What the text has to match.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: A value is outside of what it may be.
        """
        numbers = (self.temperature, self.presence_penalty, self.frequency_penalty)
        checks = (
            (self.max_tokens >= 1, f"`max_tokens` is {self.max_tokens}", "1 at least"),
            (self.temperature >= 0, f"`temperature` is {self.temperature}", "0 or more"),
            (0 < self.top_p <= 1, f"`top_p` is {self.top_p}", "above 0, and 1 at most"),
            (
                len(self.stop) <= _MOST_STOPS and all(self.stop),
                f"`stop` holds {len(self.stop)} texts",
                f"{_MOST_STOPS} at most, and none of them empty",
            ),
            (
                self.n_logprobs is None or 0 <= self.n_logprobs <= _MOST_ALTERNATIVES,
                f"`n_logprobs` is {self.n_logprobs}",
                f"from 0 to {_MOST_ALTERNATIVES}",
            ),
            (
                all(math.isfinite(each) for each in (*numbers, *self.logit_bias.values())),
                "a temperature, penalty or bias is no finite number",
                "a number",
            ),
        )
        wrong = [
            f"{what}; it may be {allowed}" for is_right, what, allowed in checks if not is_right
        ]
        if wrong:
            raise InputError(wrong[0], hint="correct the value", details=tuple(wrong[1:]))


@dataclass(frozen=True)
class Request:
    """One prompt to be answered.

    Attributes:
        prompt: Token ids, generation prompt included.
        sampling: How the answer is drawn.
        adapter: Its key in the pool; None is the base alone.
        owner: Whose it is: turns are shared out between owners, and no owner sees that another
            asked the same.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    adapter: str | None = None
    owner: str = ""


@dataclass(frozen=True)
class Alternative:
    """A token, and how likely the model took it to be at its place."""

    id: int
    text: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True)
class TokenLogProb(Alternative):
    """A token of the answer, and what else might have stood there, likeliest first."""

    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Piece:
    """What came next of an answer.

    Attributes:
        text: What may be shown; half characters, and what may become a stop text, are held back.
        tokens: The tokens drawn since the last piece, where probabilities were asked for.
        ended: How the answer ended; in its last piece only.
    """

    text: str
    tokens: tuple[TokenLogProb, ...] = ()
    ended: Ended | None = None


@dataclass
class Usage:
    """What an answer took, so far."""

    prompt_tokens: int
    cached_tokens: int = 0  # of the prompt: computed for an earlier request
    completion_tokens: int = 0
