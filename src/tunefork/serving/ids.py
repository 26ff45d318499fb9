"""Ids that nobody can guess, and the time as the API tells it."""

from __future__ import annotations

import secrets
import string
import time

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 24


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess."""
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))


def now() -> int:
    """Return the Unix time."""
    return int(time.time())
