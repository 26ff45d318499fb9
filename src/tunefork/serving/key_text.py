"""A key as its holder has it: `sk-tf-ID-SECRET`. The id finds the row, the secret opens it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_SHAPE = re.compile(r"sk-tf-([A-Za-z0-9]{24})-([A-Za-z0-9_-]{43})")
_PREFIX = "key_"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Digest:
    """What is kept of a secret."""

    salt: str
    digest: str

    def is_of(self, secret: str) -> bool:
        """Say whether it was made of this secret; it takes as long either way."""
        return hmac.compare_digest(_digest(self.salt, secret), self.digest)


# What a secret is compared with where there is no key: that takes as long, and never fits.
NOBODY = Digest("", "")


def new_secret() -> tuple[str, Digest]:
    """Return a secret that nobody can guess, and what is to be kept of it."""
    secret, salt = secrets.token_urlsafe(_SECRET_BYTES), secrets.token_hex(16)
    return secret, Digest(salt, _digest(salt, secret))


def key_text(key_id: str, secret: str) -> str:
    """Return what is given to the holder, once."""
    return f"sk-tf-{key_id.removeprefix(_PREFIX)}-{secret}"


def taken_apart(text: str) -> tuple[str, str] | None:
    """Return the id and the secret in a key; None where it is none."""
    found = _SHAPE.fullmatch(text)
    return (_PREFIX + found[1], found[2]) if found is not None else None


def _digest(salt: str, secret: str) -> str:
    return hmac.new(salt.encode(), secret.encode(), hashlib.sha256).hexdigest()
