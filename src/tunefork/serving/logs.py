"""The log: a line for each request and for what goes wrong, as text or as one JSON object a line.

No line tells what a request or an answer said, unless the operator has asked for it: an error of
which we know nothing may quote what it failed on, so it is told by its kind and place alone.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

from tunefork.core.units import duration_text
from tunefork.serving.seen import CURRENT
from tunefork.serving.watch import Answered

_requests = logging.getLogger("tunefork.requests")
_LIBRARIES = "uvicorn"
# What programs ask every few seconds: told only where it is not well.
_QUIET = {"/health", "/ready", "/metrics"}


def tell_request(answered: Answered) -> None:
    """Write the line of a request."""
    seen = answered.seen
    if answered.route in _QUIET and answered.status < 400:
        return
    fields = {
        "request_id": seen.id,
        "method": seen.method,
        "route": answered.route,
        "status": answered.status,
        "seconds": round(answered.seconds, 4),
        "whole": answered.is_whole,
        "prompt_tokens": seen.prompt_tokens,
        "completion_tokens": seen.completion_tokens,
        "key": seen.key,
        "organisation": seen.organisation,
    }
    if answered.asked is not None or answered.said is not None:
        fields |= {"asked": answered.asked, "said": answered.said}
    _requests.info(_line(answered), extra={"fields": fields})


def _line(answered: Answered) -> str:
    seen = answered.seen
    cost = f", {seen.prompt_tokens} + {seen.completion_tokens} tokens" if seen.prompt_tokens else ""
    end = "" if answered.is_whole else ", cut off"
    whose = f" key {seen.key}" if seen.key is not None else ""
    took = (
        duration_text(answered.seconds) if answered.seconds >= 60 else f"{answered.seconds:.2f} s"
    )
    return f"{seen.method} {answered.route} {answered.status} in {took}{cost}{end}{whose}"


class JsonLines(logging.Formatter):
    """Each record as one JSON object."""

    def __init__(self, *, tells_content: bool) -> None:
        super().__init__()
        self._tells_content = tells_content

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = record.__dict__.get("fields")
        if isinstance(fields, dict):
            return json.dumps(line | {"event": "request"} | fields, ensure_ascii=False)
        line |= {"event": "message", "message": record.getMessage()}
        seen = CURRENT.get()
        if seen is not None:
            line["request_id"] = seen.id
        if record.exc_info:
            line["trace"] = _trace(record, self._tells_content)
        return json.dumps(line, ensure_ascii=False)


class Lines(logging.Formatter):
    """Each record as a line for people."""

    def __init__(self, *, tells_content: bool) -> None:
        super().__init__()
        self._tells_content = tells_content

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with what belongs to it below."""
        fields = record.__dict__.get("fields")
        seen = CURRENT.get()
        name = fields["request_id"] if isinstance(fields, dict) else seen.id if seen else None
        time = datetime.fromtimestamp(record.created).isoformat(" ", "seconds")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        lines = [f"{time} {level}{record.getMessage()}{f' ({name})' if name else ''}"]
        if isinstance(fields, dict):
            lines += [f"  {key}: {fields[key]}" for key in ("asked", "said") if fields.get(key)]
        if record.exc_info:
            lines += [f"  {each}" for each in _trace(record, self._tells_content)]
        return "\n".join(lines)


def _trace(record: logging.LogRecord, tells_content: bool) -> list[str]:
    """Return where an error came from; what it says may quote a request."""
    kind, error, place = record.exc_info or (None, None, None)
    frames = traceback.extract_tb(place)
    lines = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    if kind is not None:
        lines.append(f"{kind.__name__}: {error}" if tells_content else kind.__name__)
    return lines


def set_up(*, as_json: bool, tells_content: bool) -> None:
    """Send the log of this process to its standard error; for the program that serves alone."""
    form = JsonLines if as_json else Lines
    handler = logging.StreamHandler()
    handler.setFormatter(form(tells_content=tells_content))
    for name, level in (("tunefork", logging.INFO), (_LIBRARIES, logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
