"""Load a stranger's program and let it mark answers, one line of JSON in, one out.

Runs inside the child process behind all walls; standard library only. What this process says is
not to be trusted: the program shares it.
"""

from __future__ import annotations

import json
import math
import numbers
import traceback
from collections.abc import Callable
from typing import Any, TextIO

_NAME = "<grader>"
_MOST_CHARACTERS = 300
_WALLS = "; the sandbox may keep programs from files, network and other processes"


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer until the requests end: first `{"source"}`, then `{"id", "sample", "item"}`."""
    first = json.loads(requests.readline())
    reply, grade = _load(first["source"])
    _say(replies, {**reply, "id": 0})
    if grade is None:
        return
    for line in requests:
        case = json.loads(line)
        _say(replies, {**_mark(grade, case["sample"], case["item"]), "id": case["id"]})


def _load(source: str) -> tuple[dict[str, Any], Callable[..., object] | None]:
    names: dict[str, Any] = {"__name__": "grader"}
    try:
        # Running the user's program is what this process is for.
        exec(compile(source, _NAME, "exec"), names)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - the boundary to a stranger's code
        return {"error": _said(error)}, None
    grade = names.get("grade")
    if not callable(grade):
        return {"error": "it defines no function `grade`"}, None
    return {"is_loaded": True}, grade


def _mark(grade: Callable[..., object], sample: object, item: object) -> dict[str, Any]:
    try:
        score = grade(sample, item)
        if not isinstance(score, numbers.Real):
            return {"error": f"it returned a {type(score).__name__}, not a number"}
        value = float(score)
    except BaseException as error:  # noqa: BLE001 - the boundary to a stranger's code
        return {"error": _said(error)}
    if not math.isfinite(value):
        return {"error": f"it returned {value}, not a finite number"}
    return {"score": value}


def _said(error: BaseException) -> str:
    """Return an error in one line, with the line of the program where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == _NAME]
    place = f" (line {lines[-1]})" if lines else ""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - the text of a stranger's error is a stranger's code
        text = ""
    walls = _WALLS if isinstance(error, FileNotFoundError | PermissionError) else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}"[:_MOST_CHARACTERS] + place + walls


def _say(replies: TextIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()
