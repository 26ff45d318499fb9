"""A stand-in for vLLM's server: the endpoints that are used, with vLLM's own shapes and refusals.

After `entrypoints/openai/models/serving.py` and `entrypoints/serve/lora/api_router.py` of vLLM: a
loaded adapter answers "Success: …" as text; the same name twice is 400, an unknown one 404, both as
`{"error": {message, type, param, code}}`; without run-time updates the endpoints are not there, and
FastAPI answers `{"detail": "Not Found"}`. What it draws is made up: its folder's name.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

_BASE = "served-base"


def _error(message: str, kind: str, code: int) -> JSONResponse:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, code)


@dataclass
class VllmStandIn:
    """One engine; `adapters` are those it holds, by name."""

    updates_at_run_time: bool = True
    max_lora_rank: int = 16
    adapters: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    is_away: bool = False
    holds: threading.Event | None = None  # answers wait for it

    def app(self) -> FastAPI:
        """Return the server."""
        app = FastAPI()

        @app.middleware("http")
        async def away(request: Request, follow: Any) -> Response:
            self.calls.append(f"{request.method} {request.url.path}")
            if self.is_away:  # as a proxy before an engine that is down
                return PlainTextResponse("bad gateway", 502)
            found: Response = await follow(request)
            return found

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            base = {"id": _BASE, "object": "model", "created": 1, "owned_by": "vllm"}
            cards = [{**base, "root": "/models/base", "parent": None, "max_model_len": 96}]
            cards += [
                {**base, "id": name, "root": path, "parent": _BASE, "max_model_len": None}
                for name, path in self.adapters.items()
            ]
            return {"object": "list", "data": cards}

        @app.get("/version")
        def version() -> dict[str, str]:
            return {"version": "0.11.2"}

        app.post("/v1/completions", response_model=None)(self._complete)
        if self.updates_at_run_time:
            app.post("/v1/load_lora_adapter", response_model=None)(self._load)
            app.post("/v1/unload_lora_adapter", response_model=None)(self._unload)
        return app

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            what = "Both 'lora_name' and 'lora_path' must be provided."
            return _error(what, "InvalidUserInput", 400)
        if name in self.adapters and not body.get("load_inplace"):
            what = f"The lora adapter '{name}' has already been loaded. If you want to load the "
            return _error(
                what + "adapter in place, set 'load_inplace' to True.", "InvalidUserInput", 400
            )
        config = Path(path) / "adapter_config.json"
        if not config.is_file():
            what = f"Loading lora {name} failed: No adapter found for {path}"
            return _error(what, "NotFoundError", 404)
        rank = json.loads(config.read_text())["r"]
        if rank > self.max_lora_rank:
            what = f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}."
            return _error(what, "BadRequestError", 400)
        self.adapters[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json()).get("lora_name")
        if name not in self.adapters:
            what = f"The lora adapter '{name}' cannot be found."
            return _error(what, "NotFoundError", 404)
        del self.adapters[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        model = body["model"]
        if model != _BASE and model not in self.adapters:
            return _error(f"The model `{model}` does not exist.", "NotFoundError", 404)
        said = "base" if model == _BASE else Path(self.adapters[model]).name
        return StreamingResponse(self._chunks(body, said), media_type="text/event-stream")

    async def _chunks(self, body: dict[str, Any], said: str) -> AsyncIterator[str]:
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}

        def chunk(text: str, reason: str | None) -> str:
            found = None
            if body.get("logprobs") is not None and text:
                ids = [f"token_id:{4 + ord(letter) % 20}" for letter in text]
                found = {
                    "tokens": ids,
                    "token_logprobs": [-0.5] * len(ids),
                    "top_logprobs": [{each: -0.5, "token_id:9": -3.0} for each in ids],
                    "text_offset": [0] * len(ids),
                }
            choice = {"index": 0, "text": text, "logprobs": found, "finish_reason": reason}
            return f"data: {json.dumps({**head, 'choices': [choice], 'usage': None})}\n\n"

        for letter in said[: body["max_tokens"]]:
            while self.holds is not None and not self.holds.is_set():
                await asyncio.sleep(0.01)
            yield chunk(letter, None)
        yield chunk("", "length" if len(said) > body["max_tokens"] else "stop")
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": min(len(said), body["max_tokens"]),
            "prompt_tokens_details": {"cached_tokens": 2},
        }
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"
