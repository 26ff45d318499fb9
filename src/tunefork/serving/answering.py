"""From a prompt and settings to answers: whole, or piece by piece; given up when nobody listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import Request as HttpRequest
from starlette.concurrency import run_in_threadpool

from tunefork.core.errors import DataError, InputError
from tunefork.inference.engine import Constraint, Request, Sampling, Ticket, TokenLogProb
from tunefork.serving.allowance import Allowance
from tunefork.serving.catalogue import Catalogue, Host, ServedModel
from tunefork.serving.errors import ApiError, invalid, not_found
from tunefork.serving.limits import Limits
from tunefork.serving.meters import Charge
from tunefork.serving.seen import note_tickets

_SEEDS = 2**63


@dataclass(frozen=True)
class Wanted:
    """How to draw an answer, in the API's terms; None is the model's own setting."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n_logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    constraint: Constraint | None = None
    n: int = 1


@dataclass(frozen=True)
class Opened:
    """A model with what answers for it."""

    model: ServedModel
    host: Host

    @property
    def fingerprint(self) -> str:
        """What an answer says of the system that gave it."""
        return "fp_" + self.host.fingerprint.removeprefix("sha256:")[:10]


@dataclass(frozen=True)
class Finished:
    """One answer."""

    text: str
    tokens: tuple[TokenLogProb, ...]
    ended: Literal["stop", "length"]


@dataclass(frozen=True)
class Part:
    """A piece of one of several answers."""

    index: int
    text: str
    tokens: tuple[TokenLogProb, ...]
    ended: Literal["stop", "length"] | None


async def open_model(catalogue: Catalogue, owner: str, name: str) -> Opened:
    """Find a model and what it stands on, loaded if need be.

    Raises:
        ApiError: There is no such model.
        TuneforkError: It cannot be loaded.
    """

    def opened() -> Opened:
        model = catalogue.find(owner, name)
        if model is None:
            raise not_found("model", name, "model")
        if model.can_embed:
            raise invalid(f"`{name}` makes embeddings, not text.", "model")
        return Opened(model, catalogue.backend.host(model))

    return await run_in_threadpool(opened)


@dataclass(frozen=True)
class Asked:
    """Answers that the engine was asked for.

    Attributes:
        tickets: One for each, those to one prompt side by side.
        n: How many there are to each prompt.
        charge: The tokens that are reserved for them.
    """

    tickets: Sequence[Ticket]
    n: int
    charge: Charge

    def cancel(self) -> None:
        """Let the engine forget them, and settle what they came to; again, it does nothing."""
        for ticket in self.tickets:
            ticket.cancel()
        self.charge.settle(self.usage()["total_tokens"])

    def usage(self) -> dict[str, Any]:
        """Return what they cost; a prompt counts once for its `n` answers."""
        prompts = sum(ticket.usage.prompt_tokens for ticket in self.tickets[:: self.n])
        cached = sum(ticket.usage.cached_tokens for ticket in self.tickets[:: self.n])
        written = sum(ticket.usage.completion_tokens for ticket in self.tickets)
        return {
            "prompt_tokens": prompts,
            "completion_tokens": written,
            "total_tokens": prompts + written,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }


def submit(
    opened: Opened, prompts: Sequence[Sequence[int]], wanted: Wanted, allowed: Allowance
) -> Asked:
    """Hand every answer to the engine, `n` for each prompt; all of them or none.

    Raises:
        ApiError: A prompt leaves no room for an answer, or the caller's tokens are used up.
        Busy: There is no room in the queue.
    """
    samplings = [_sampling(opened, prompt, wanted, allowed.limits) for prompt in prompts]
    read = sum(map(len, prompts))
    charge = allowed.reserve(
        most=read + wanted.n * sum(sampling.max_tokens for sampling in samplings),
        least=read + wanted.n * len(prompts) * (wanted.max_tokens or 1),
    )
    tickets: list[Ticket] = []
    asked = Asked(tickets, wanted.n, charge)
    try:
        for prompt, sampling in zip(prompts, samplings, strict=True):
            for number in range(wanted.n):
                seed = None if wanted.seed is None else (wanted.seed + number) % _SEEDS
                tickets.append(
                    opened.host.decoder.submit(
                        Request(
                            prompt=tuple(prompt),
                            sampling=replace(sampling, seed=seed),
                            adapter=opened.model.adapter,
                            owner=allowed.caller.owner,
                        )
                    )
                )
    except BaseException:
        asked.cancel()
        raise
    note_tickets(tickets, wanted.n)
    return asked


def _sampling(opened: Opened, prompt: Sequence[int], wanted: Wanted, limits: Limits) -> Sampling:
    if not prompt:
        raise invalid("The prompt is empty.", "prompt")
    defaults = opened.model.defaults
    longest = opened.host.max_length
    room = limits.completion_tokens if longest is None else longest - len(prompt)
    asked = wanted.max_tokens
    if room < 1 or (asked is not None and asked > room and longest is not None):
        raise ApiError(
            400,
            f"This model takes {longest} tokens at most, and the prompt has {len(prompt)}"
            + (f", the answer up to {asked}" if asked is not None else "")
            + ". Shorten the prompt or the answer.",
            param="messages",
            code="context_length_exceeded",
        )
    own = int(defaults.get("max_tokens", limits.completion_tokens))
    return Sampling(
        max_tokens=min(asked if asked is not None else own, room, limits.completion_tokens),
        temperature=_first(wanted.temperature, defaults.get("temperature"), 1.0),
        top_p=_first(wanted.top_p, defaults.get("top_p"), 1.0),
        stop=wanted.stop,
        n_logprobs=wanted.n_logprobs,
        logit_bias=dict(wanted.logit_bias),
        presence_penalty=wanted.presence_penalty,
        frequency_penalty=wanted.frequency_penalty,
        constraint=wanted.constraint,
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


async def finished(request: HttpRequest, asked: Asked) -> list[Finished]:
    """Return every answer, whole; give up when the client has gone.

    Raises:
        TuneforkError: The engine could not answer.
    """
    work = asyncio.ensure_future(_all(asked.tickets))
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ApiError(400, "The client has gone.", code="client_gone")  # nobody reads it
        return work.result()
    finally:
        asked.cancel()
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _all(tickets: Sequence[Ticket]) -> list[Finished]:
    return list(await asyncio.gather(*(_whole(ticket) for ticket in tickets)))


async def _whole(ticket: Ticket) -> Finished:
    texts: list[str] = []
    tokens: list[TokenLogProb] = []
    ended: Literal["stop", "length"] = "length"
    async for piece in ticket:
        texts.append(piece.text)
        tokens += piece.tokens
        ended = piece.ended or ended
    return Finished("".join(texts), tuple(tokens), ended)


async def _gone(request: HttpRequest) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


async def parts(asked: Asked) -> AsyncIterator[Part]:
    """Yield the pieces of all answers as they come; the engine forgets what is not read."""
    queue: asyncio.Queue[Part | BaseException | None] = asyncio.Queue()

    async def feed(index: int, ticket: Ticket) -> None:
        try:
            async for piece in ticket:
                queue.put_nowait(Part(index, piece.text, piece.tokens, piece.ended))
            queue.put_nowait(None)
        except Exception as error:  # noqa: BLE001  handed to who reads
            queue.put_nowait(error)

    feeding = [asyncio.ensure_future(feed(*pair)) for pair in enumerate(asked.tickets)]
    try:
        left = len(asked.tickets)
        while left:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        asked.cancel()
        for task in feeding:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*feeding, return_exceptions=True)


def token_bias(opened: Opened, given: dict[str, float] | None) -> tuple[tuple[int, float], ...]:
    """Return `logit_bias` by token.

    Raises:
        ApiError: A key is no token of this model.
    """
    vocabulary = opened.host.renderer.tokenizer.vocab_size
    found = []
    for key, value in (given or {}).items():
        if not (key.isascii() and key.isdigit() and len(key) < 10 and int(key) < vocabulary):
            raise invalid(f"`{key[:20]}` is no token of this model.", "logit_bias")
        found.append((int(key), value))
    return tuple(found)


def rendering(error: InputError | DataError, param: str) -> ApiError:
    """Return the answer to a conversation that the model's template refuses."""
    return invalid(error.message + (f" ({error.hint})" if error.hint else ""), param)
