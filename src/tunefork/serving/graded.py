"""Graders in requests: checked, and asked."""

from __future__ import annotations

from typing import Any

from tunefork.core.errors import InputError
from tunefork.graders import Grader, validate_grader
from tunefork.serving.errors import invalid


def checked_grader(value: dict[str, Any], param: str) -> Grader:
    """Return the grader that a request gives.

    Raises:
        ApiError: It is none.
    """
    try:
        return validate_grader(value)
    except InputError as error:
        raise invalid(error.message + (f" ({error.hint})" if error.hint else ""), param) from error
