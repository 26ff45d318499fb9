"""Errors in OpenAI's one shape, whatever went wrong: `{"error": {message, type, param, code}}`.

`install` hands every way in which a request can fail to a handler here, so that no answer holds a
traceback, a path of this machine, or another shape. What is our fault goes to the log in full.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from tunefork.core.errors import (
    Busy,
    DataError,
    InputError,
    ModelError,
    RemoteError,
    RunError,
    TuneforkError,
)

log = logging.getLogger("tunefork.serving")

Kind = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "rate_limit_error",
    "server_error",
]
_KINDS: dict[int, Kind] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
# What the official client would try again, although it will be answered the same.
_FINAL = {409, 500, 507}


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorBody


_DESCRIBED = {
    400: "The request is not valid.",
    401: "No key, or a wrong one.",
    403: "Not from here.",
    404: "There is no such thing.",
    409: "It is not in a state for this.",
    413: "The body is too large.",
    415: "The body is of another type.",
    429: "Too many requests at once; `retry-after` says when to come back.",
    500: "The server's fault.",
    503: "Cannot be done now; `retry-after` says when to come back.",
}
# Every route may answer so; a document that says less would be untrue.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _DESCRIBED.items()
}


class ApiError(HTTPException):
    """An answer other than what was asked for.

    FastAPI lets an HTTP exception through where it reads a body, and no other.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """Return the object that stands in the answer, or in a stream."""
        kind = _KINDS.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """Return the whole answer."""
        headers = dict(self.headers or {})
        if self.status in _FINAL:
            headers.setdefault("x-should-retry", "false")
        return JSONResponse(self.body(), self.status, headers)


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the answer to a request that asks for what cannot be."""
    return ApiError(400, message, param=param, code=code)


def not_found(what: str, name: str, param: str | None = None) -> ApiError:
    """Return the answer to a request for something that is not there."""
    code = "model_not_found" if what == "model" else "not_found"
    shown = name if len(name) <= 100 else name[:99] + "…"
    return ApiError(404, f"There is no {what} `{shown}`.", param=param, code=code)


def from_error(error: TuneforkError, param: str | None = None) -> ApiError:
    """Return the answer that one of our own errors becomes; where it stands is for the log."""
    text = error.message + (f" ({error.hint})" if error.hint else "")
    if isinstance(error, Busy):
        wait_s = max(1, round(error.retry_after_s))
        headers = {"retry-after": str(wait_s), "x-should-retry": "true"}
        return ApiError(429, text, code="rate_limit_exceeded", headers=headers)
    if isinstance(error, ModelError):
        log.error("a model cannot be used: %s", error)
        return ApiError(500, f"The model cannot be used: {error.message}", code="model_unusable")
    if isinstance(error, RemoteError):
        log.warning("the engine cannot be used: %s", error)
        headers = {"retry-after": "2", "x-should-retry": "true"}
        return ApiError(503, f"Not now: {error.message}", code="unavailable", headers=headers)
    if isinstance(error, RunError):
        log.error("state cannot be read or written: %s", error)
        headers = {"retry-after": "5", "x-should-retry": "true"}
        return ApiError(503, f"Not now: {error.message}", code="unavailable", headers=headers)
    if isinstance(error, DataError | InputError):
        return invalid(text, param)
    log.error("our fault: %s", error)
    return ApiError(500, error.message, code="internal_error")


def unexpected(error: BaseException) -> ApiError:
    """Return the answer to what nobody thought of, which the log tells in full."""
    log.error("our fault", exc_info=error)
    return ApiError(500, "The server failed; its log says why.", code="internal_error")


def install(app: FastAPI) -> None:
    """Answer every failure in the one shape; what nobody thought of is for `watch`."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(TuneforkError, _own)
    app.add_exception_handler(ResponseValidationError, _any)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


async def _own(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TuneforkError)
    return from_error(error).response()


async def _any(request: Request, error: Exception) -> JSONResponse:
    return unexpected(error).response()


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"[:200]
    said = {
        404: f"There is nothing at `{what}`.",
        405: f"`{what}` is not allowed here.",
    }
    usual = error.detail or HTTPStatus(error.status_code).phrase
    message = said.get(error.status_code, str(usual))
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    given = (problem.get("ctx") or {}).get("param")
    place = [str(part) for part in problem["loc"] if part not in ("body", "query", "path")]
    param = str(given) if given else ".".join(place) or None
    code = "unknown_parameter" if problem["type"] == "extra_forbidden" else None
    text = _said(problem, param)
    return invalid(text, param, code or problem["type"]).response()


def _said(problem: Mapping[str, Any], param: str | None) -> str:
    if problem["type"] == "extra_forbidden":
        return f"Unrecognized request argument supplied: {param}"
    if problem["type"] == "missing":
        return f"Missing required parameter: `{param}`."
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"`{param}`: {message}" if param and not problem["type"].startswith("own_") else message
