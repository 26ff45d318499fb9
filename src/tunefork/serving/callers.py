"""Who asks: a project, by one of its keys; or the local user, where no key is asked for.

A project is what is kept apart: whatever is stored belongs to one, and each sees its own alone.
Its id is the `owner` of rows, of waiting requests and of cached prompts. An organisation only
gathers projects under one name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

# read: look at what the project has. infer: ask models. tune: make, change and remove things.
# admin: the server as a whole, which is nobody's.
Scope = Literal["read", "infer", "tune", "admin"]
USUAL_SCOPES: tuple[Scope, ...] = ("read", "infer", "tune")
LOCAL = "local"  # the project of who asks without a key, and its name


@dataclass(frozen=True)
class Payer:
    """A project or key whose limits count; None is no limit."""

    id: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        owner: The project's id.
        organisation: Its organisation's id.
        organisation_name: The organisation's name, which stands in the names of tuned models.
        scopes: What may be done.
        payers: Whose limits count, the key's and the project's; none where nothing is limited.
        key: The key's id; None without one.
    """

    owner: str
    organisation: str
    organisation_name: str
    scopes: frozenset[Scope]
    payers: tuple[Payer, ...] = field(default=())
    key: str | None = None


LOCAL_USER = Caller(LOCAL, "org-local", LOCAL, frozenset(get_args(Scope)))


def scopes_for(method: str, path: str) -> frozenset[Scope]:
    """Return the scopes of which a request needs one; whatever is new here is held closed."""
    if not path.startswith("/v1/") and path != "/openapi.json":
        return frozenset({"admin"})
    if path in _ASKING and method == "POST":
        return frozenset({"infer"})
    if method not in ("GET", "HEAD"):
        return frozenset({"tune"})
    return frozenset({"read", "infer"} if path.startswith("/v1/models") else {"read"})


_ASKING = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"}
