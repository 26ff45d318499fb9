"""`/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request

from tunefork.core.errors import DataError, InputError
from tunefork.serving.answering import (
    Asked,
    Finished,
    Opened,
    Wanted,
    finished,
    open_model,
    parts,
    rendering,
    submit,
    token_bias,
)
from tunefork.serving.chat_answer import ChatCompletion
from tunefork.serving.chat_body import ChatBody, NamedTool, Tool, stops, turns
from tunefork.serving.constraints import call_constraint, format_constraint
from tunefork.serving.context import Allowed, Parts
from tunefork.serving.errors import RESPONSES, invalid
from tunefork.serving.ids import new_id, now
from tunefork.serving.limits import Limits
from tunefork.serving.logprobs import chat_logprobs
from tunefork.serving.stream import DONE, STREAMED, event, streaming
from tunefork.serving.tools import Style, may_be_call, style_of, take_apart

router = APIRouter(tags=["chat"], responses=RESPONSES)


@dataclass(frozen=True)
class _Prepared:
    """A request, ready to be answered."""

    body: ChatBody
    opened: Opened
    prompt: list[int]
    wanted: Wanted
    style: Style | None  # how calls are written; None where none is expected
    names: frozenset[str]
    id: str
    created: int

    @property
    def n(self) -> int:
        return self.wanted.n


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    response_model_exclude_unset=True,
    responses={200: STREAMED},
)
async def create(body: ChatBody, request: Request, parts_of: Parts, allowed: Allowed) -> Any:
    """Go on with a conversation."""
    opened = await open_model(parts_of.catalogue, allowed.caller.owner, body.model)
    prepared = _prepare(body, opened, parts_of.limits)
    asked = submit(opened, [prepared.prompt], prepared.wanted, allowed)
    if body.stream:
        return await streaming(_events(prepared, asked))
    answers = await finished(request, asked)
    return _completion(prepared, answers, asked)


def _prepare(body: ChatBody, opened: Opened, limits: Limits) -> _Prepared:
    tools = [] if body.tool_choice == "none" else list(body.tools or [])
    style = _style(body, opened, tools)
    prompt = _prompt(body, opened, tools)
    return _Prepared(
        body,
        opened,
        prompt,
        _wanted(body, opened, tools, style, limits),
        style,
        frozenset(tool.function.name for tool in tools),
        new_id("chatcmpl-"),
        now(),
    )


def _style(body: ChatBody, opened: Opened, tools: Sequence[Tool]) -> Style | None:
    if not tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise invalid("`tool_choice` asks for a tool, and there are no `tools`.", "tool_choice")
        return None
    style = style_of(opened.host.renderer.template)
    if style is None:
        raise invalid(f"The template of `{body.model}` takes no tools.", "tools")
    return style


def _prompt(body: ChatBody, opened: Opened, tools: Sequence[Tool]) -> list[int]:
    conversation = opened.model.conversation(turns(body.messages))
    offered = [tool.model_dump(exclude_none=True) for tool in tools]
    try:
        return opened.host.renderer.prompt(conversation, offered)
    except (DataError, InputError) as error:
        raise rendering(error, "messages") from error


def _wanted(
    body: ChatBody, opened: Opened, tools: Sequence[Tool], style: Style | None, limits: Limits
) -> Wanted:
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream: true`.", "stream_options")
    n = body.n or 1
    if n > limits.choices:
        raise invalid(f"`n` is {limits.choices} at most here.", "n")
    constraint = format_constraint(body.response_format, "response_format")
    choice = body.tool_choice
    if style is not None and (choice == "required" or isinstance(choice, NamedTool)):
        constraint = call_constraint(tools, choice, style)
    return Wanted(
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=stops(body.stop),
        n_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        logit_bias=token_bias(opened, body.logit_bias),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        constraint=constraint,
        n=n,
    )


def _completion(prepared: _Prepared, answers: Sequence[Finished], asked: Asked) -> dict[str, Any]:
    return {
        **_head(prepared, "chat.completion"),
        "choices": [_choice(prepared, index, answer) for index, answer in enumerate(answers)],
        "usage": asked.usage(),
    }


def _head(prepared: _Prepared, kind: str) -> dict[str, Any]:
    return {
        "id": prepared.id,
        "object": kind,
        "created": prepared.created,
        "model": prepared.opened.model.id,
        "system_fingerprint": prepared.opened.fingerprint,
        "service_tier": "default",
    }


def _choice(prepared: _Prepared, index: int, answer: Finished) -> dict[str, Any]:
    text, calls = _taken_apart(prepared, answer.text)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(prepared, answer),
        "finish_reason": "tool_calls" if calls else answer.ended,
    }


def _taken_apart(prepared: _Prepared, text: str) -> tuple[str, list[dict[str, Any]]]:
    if prepared.style is None:
        return text, []
    said = take_apart(text, prepared.style, prepared.names)
    calls = [
        {
            "id": new_id("call_"),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in said.calls
    ]
    return said.text, calls


def _logprobs(prepared: _Prepared, answer: Finished) -> dict[str, Any] | None:
    return chat_logprobs(answer.tokens) if prepared.body.logprobs else None


async def _events(prepared: _Prepared, asked: Asked) -> AsyncIterator[str]:
    head = _head(prepared, "chat.completion.chunk")
    options = prepared.body.stream_options
    wants_usage = options is not None and bool(options.include_usage)
    if wants_usage:
        head["usage"] = None
    held = [""] * prepared.n  # what may yet turn out to be a call
    begun = [False] * prepared.n

    def chunk(index: int, delta: dict[str, Any], reason: str | None, logprobs: Any) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return event({**head, "choices": [choice]})

    async for part in parts(asked):
        index = part.index
        if not begun[index]:
            begun[index] = True
            yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None, None)
        logprobs = chat_logprobs(part.tokens) if prepared.body.logprobs else None
        held[index] += part.text
        reason: str | None = part.ended
        if prepared.style is not None and may_be_call(held[index], prepared.style):
            if part.ended is None:
                continue
            text, calls = _taken_apart(prepared, held[index])
            if calls:
                deltas = [{"index": at, **call} for at, call in enumerate(calls)]
                yield chunk(index, {"tool_calls": deltas}, None, None)
                reason = "tool_calls"
            held[index] = text
        if held[index] or (logprobs and logprobs["content"]):
            yield chunk(index, {"content": held[index]}, None, logprobs)
        held[index] = ""
        if reason is not None:
            yield chunk(index, {}, reason, None)
    if wants_usage:
        yield event({**head, "choices": [], "usage": asked.usage()})
    yield DONE
