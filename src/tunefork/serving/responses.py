"""`/v1/responses`: the newer form of a conversation, for text and without memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from tunefork.core.errors import DataError, InputError
from tunefork.inference.engine import Constraint, json_object
from tunefork.serving.answering import (
    Asked,
    Opened,
    Wanted,
    finished,
    open_model,
    parts,
    rendering,
    submit,
)
from tunefork.serving.constraints import schema_constraint
from tunefork.serving.context import Allowed, Parts
from tunefork.serving.errors import RESPONSES
from tunefork.serving.ids import new_id, now
from tunefork.serving.response_body import PlainObject, ResponseBody, Schema
from tunefork.serving.stream import STREAMED, event, streaming

router = APIRouter(tags=["responses"], responses=RESPONSES)
_Ended = Literal["stop", "length"]


class OutputText(BaseModel):
    """What was said."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(BaseModel):
    """A turn of the model."""

    id: str
    type: Literal["message"]
    status: str
    role: Literal["assistant"]
    content: list[OutputText]


class ResponseObject(BaseModel):
    """An answer, with what was asked."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete"]
    error: None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float | None
    text: dict[str, Any]
    tool_choice: Literal["auto"]
    tools: list[Any]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: dict[str, Any] | None


@router.post("/v1/responses", response_model=ResponseObject, responses={200: STREAMED})
async def create(body: ResponseBody, request: Request, context: Parts, allowed: Allowed) -> Any:
    """Go on with a conversation. Nothing is kept: what is to be remembered is sent again."""
    opened = await open_model(context.catalogue, allowed.caller.owner, body.model)
    try:
        prompt = opened.host.renderer.prompt(opened.model.conversation(body.turns()))
    except (DataError, InputError) as error:
        raise rendering(error, "input") from error
    wanted = Wanted(
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        constraint=_constraint(body),
    )
    asked = submit(opened, [prompt], wanted, allowed)
    head = _head(body, opened)
    if body.stream:
        return await streaming(_events(head, asked))
    (answer,) = await finished(request, asked)
    return _done(head, new_id("msg_"), answer.text, answer.ended, asked)


def _constraint(body: ResponseBody) -> Constraint | None:
    given = body.text.format if body.text is not None else None
    if isinstance(given, Schema):
        return schema_constraint(given.schema_, "text.format.schema")
    return json_object() if isinstance(given, PlainObject) else None


def _head(body: ResponseBody, opened: Opened) -> dict[str, Any]:
    text = body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {}
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": opened.model.id,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def _message(name: str, text: str, status: str) -> dict[str, Any]:
    return {
        "id": name,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _done(
    head: dict[str, Any], name: str, text: str, ended: _Ended, asked: Asked
) -> dict[str, Any]:
    status = "completed" if ended == "stop" else "incomplete"
    cost = asked.usage()
    return {
        **head,
        "status": status,
        "completed_at": now() if status == "completed" else None,
        "incomplete_details": None if status == "completed" else {"reason": "max_output_tokens"},
        "output": [_message(name, text, status)],
        "usage": {
            "input_tokens": cost["prompt_tokens"],
            "input_tokens_details": {
                "cached_tokens": cost["prompt_tokens_details"]["cached_tokens"],
                "cache_write_tokens": 0,
            },
            "output_tokens": cost["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": cost["total_tokens"],
        },
    }


async def _events(head: dict[str, Any], asked: Asked) -> AsyncIterator[str]:
    name, texts, number = new_id("msg_"), [""], 0
    ended: _Ended = "length"
    place = {"item_id": name, "output_index": 0, "content_index": 0}

    def tell(kind: str, **values: Any) -> str:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **values}, kind)

    begun = False
    async for part in parts(asked):
        if not begun:
            begun = True
            yield tell("response.created", response=head)
            yield tell("response.in_progress", response=head)
            item = {**_message(name, "", "in_progress"), "content": []}
            yield tell("response.output_item.added", output_index=0, item=item)
            yield tell("response.content_part.added", **place, part=_part(""))
        if part.text:
            texts.append(part.text)
            yield tell("response.output_text.delta", **place, delta=part.text, logprobs=[])
        ended = part.ended or ended
    text = "".join(texts)
    done = _done(head, name, text, ended, asked)
    yield tell("response.output_text.done", **place, text=text, logprobs=[])
    yield tell("response.content_part.done", **place, part=_part(text))
    yield tell("response.output_item.done", output_index=0, item=done["output"][0])
    yield tell(f"response.{done['status']}", response=done)
