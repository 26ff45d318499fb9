"""`/v1/completions`, the legacy form: text in, text out, no conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from tunefork.serving.answering import (
    Asked,
    Opened,
    Wanted,
    finished,
    open_model,
    parts,
    submit,
    token_bias,
)
from tunefork.serving.bodies import Body, Name
from tunefork.serving.chat_answer import Usage
from tunefork.serving.chat_body import (
    Bias,
    Penalty,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    Tokens,
    TopP,
    stops,
)
from tunefork.serving.context import Allowed, Parts
from tunefork.serving.errors import RESPONSES, invalid
from tunefork.serving.ids import new_id, now
from tunefork.serving.limits import Limits
from tunefork.serving.logprobs import text_logprobs
from tunefork.serving.stream import DONE, STREAMED, event, streaming

router = APIRouter(tags=["completions"], responses=RESPONSES)
_USUAL_TOKENS = 16  # the API's
_Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionBody(Body):
    """A text to go on with, and how."""

    ignored: ClassVar[frozenset[str]] = frozenset({"user"})
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "best_of": (1,),
        "echo": (False,),
        "suffix": (),
    }

    model: Name
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | _Ids
        | Annotated[list[_Ids], Field(min_length=1)]
    )
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None


class TextLogProbs(BaseModel):
    """The tokens of an answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One of several answers."""

    index: int
    text: str
    logprobs: TextLogProbs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """Texts that go on with prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


@router.post("/v1/completions", response_model=Completion, responses={200: STREAMED})
async def create(body: CompletionBody, request: Request, context: Parts, allowed: Allowed) -> Any:
    """Go on with a text."""
    opened = await open_model(context.catalogue, allowed.caller.owner, body.model)
    prompts = _prompts(body, opened, context.limits)
    wanted = _wanted(body, opened, context.limits)
    asked = submit(opened, prompts, wanted, allowed)
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": now(),
        "model": opened.model.id,
        "system_fingerprint": opened.fingerprint,
    }
    if body.stream:
        return await streaming(_events(body, head, asked))
    answers = await finished(request, asked)
    choices = [
        {
            "index": index,
            "text": answer.text,
            "logprobs": None if body.logprobs is None else text_logprobs(answer.tokens),
            "finish_reason": answer.ended,
        }
        for index, answer in enumerate(answers)
    ]
    return {**head, "choices": choices, "usage": asked.usage()}


def _wanted(body: CompletionBody, opened: Opened, limits: Limits) -> Wanted:
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream: true`.", "stream_options")
    n = body.n or 1
    if n > limits.choices:
        raise invalid(f"`n` is {limits.choices} at most here.", "n")
    return Wanted(
        max_tokens=body.max_tokens or _USUAL_TOKENS,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=stops(body.stop),
        n_logprobs=body.logprobs,
        logit_bias=token_bias(opened, body.logit_bias),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        n=n,
    )


def _prompts(body: CompletionBody, opened: Opened, limits: Limits) -> list[list[int]]:
    tokenizer, given = opened.host.renderer.tokenizer, body.prompt
    if isinstance(given, str):
        return [_encoded(opened, given)]
    if isinstance(given[0], int):
        found: list[Any] = [given]
    elif isinstance(given[0], str):
        found = [_encoded(opened, str(text)) for text in given]
    else:
        found = list(given)
    if len(found) > limits.prompts:
        raise invalid(f"There are {limits.prompts} prompts at most here.", "prompt")
    if any(token >= tokenizer.vocab_size for ids in found for token in ids):
        raise invalid("A number in it is no token of this model.", "prompt")
    return found


def _encoded(opened: Opened, text: str) -> list[int]:
    tokenizer = opened.host.renderer.tokenizer
    begin = (tokenizer.bos_token or "") if tokenizer.adds_bos else ""
    ids = tokenizer.encode(begin + text)
    if not ids:
        raise invalid("The prompt is empty.", "prompt")
    return ids


async def _events(body: CompletionBody, head: dict[str, Any], asked: Asked) -> AsyncIterator[str]:
    wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    if wants_usage:
        head = {**head, "usage": None}
    places = [0] * len(asked.tickets)
    async for part in parts(asked):
        logprobs = None
        if body.logprobs is not None:
            logprobs = text_logprobs(part.tokens, places[part.index])
            places[part.index] += sum(len(token.text) for token in part.tokens)
        choice = {
            "index": part.index,
            "text": part.text,
            "logprobs": logprobs,
            "finish_reason": part.ended,
        }
        yield event({**head, "choices": [choice]})
    if wants_usage:
        yield event({**head, "choices": [], "usage": asked.usage()})
    yield DONE
