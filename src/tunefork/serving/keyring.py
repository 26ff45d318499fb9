"""The keys that a running server knows: what the database says, at most half a second old."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from tunefork.serving.callers import LOCAL_USER, Caller, Payer, Scope
from tunefork.serving.errors import ApiError
from tunefork.serving.key_tables import KeyRow, OrganisationRow, ProjectRow
from tunefork.serving.key_text import NOBODY, Digest, taken_apart
from tunefork.serving.store import Store

_FRESH_S = 0.5
_MOST_KEPT = 10_000  # keys that are kept in mind


@dataclass(frozen=True)
class _Known:
    """A key as it was when it was looked up."""

    caller: Caller
    digest: Digest
    previous: Digest | None
    previous_until: int
    expires: int | None
    is_revoked: bool
    at_s: float


class Keyring:
    """Tells who holds a key.

    Args:
        store: Where keys are.
        clock: Seconds that never go back, for how old a look is.
        wall: The Unix time, for what a key's dates say.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall = wall
        self._known: dict[str, _Known] = {}
        self._has_keys: tuple[bool, float] | None = None

    async def has_keys(self) -> bool:
        """Say whether any key was ever made; then one is needed."""
        now = self._clock()
        if self._has_keys is None or now - self._has_keys[1] >= _FRESH_S:
            self._has_keys = (await run_in_threadpool(self.are_there_keys), now)
        return self._has_keys[0]

    async def caller(self, text: str) -> Caller:
        """Return who holds a key.

        Raises:
            ApiError: Nobody does, or not any more.
        """
        parts = taken_apart(text)
        if parts is None:
            raise wrong_key()
        key_id, secret = parts
        now = self._clock()
        known = self._known.get(key_id)
        if known is None or now - known.at_s >= _FRESH_S:
            known = await run_in_threadpool(self._look_up, key_id, now)
        return self._opened(known, secret)

    def background(self, owner: str, key_id: str | None) -> Caller:
        """Return who pays for work that a project began, whatever became of the key meanwhile."""
        if key_id is None:
            return LOCAL_USER
        known = self._look_up(key_id, self._clock())
        if known is not None:
            return known.caller
        query = select(ProjectRow, OrganisationRow).join(
            OrganisationRow, OrganisationRow.id == ProjectRow.organisation_id
        )
        with self._store.reading() as session:
            project, organisation = session.execute(query.where(ProjectRow.id == owner)).one()
        payers = _payers(project)
        return Caller(project.id, organisation.id, organisation.name, frozenset(), payers)

    def _opened(self, known: _Known | None, secret: str) -> Caller:
        is_right = (known.digest if known is not None else NOBODY).is_of(secret)
        if known is None:
            raise wrong_key()
        if not is_right:
            before = known.previous
            is_in_time = self._wall() < known.previous_until
            is_right = before is not None and before.is_of(secret) and is_in_time
        if not is_right or known.is_revoked:
            raise wrong_key()
        if known.expires is not None and self._wall() >= known.expires:
            raise wrong_key("This API key has expired.")
        return known.caller

    def are_there_keys(self) -> bool:
        """Look whether any key was ever made."""
        with self._store.reading() as session:
            return session.scalar(select(KeyRow.number).limit(1)) is not None

    def _look_up(self, key_id: str, now: float) -> _Known | None:
        query = (
            select(KeyRow, ProjectRow, OrganisationRow)
            .join(ProjectRow, ProjectRow.id == KeyRow.project_id)
            .join(OrganisationRow, OrganisationRow.id == ProjectRow.organisation_id)
        )
        with self._store.reading() as session:
            found = session.execute(query.where(KeyRow.id == key_id)).first()
        if found is None:
            self._known.pop(key_id, None)  # names that nobody has are not kept: there is no end
            return None
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        key, project, organisation = found
        self._known[key_id] = known = _known(key, project, organisation, now)
        return known


def wrong_key(message: str = "Incorrect API key provided.") -> ApiError:
    """Return the answer to a key that opens nothing."""
    hint = {"www-authenticate": "Bearer"}
    return ApiError(401, message, code="invalid_api_key", headers=hint)


def _known(key: KeyRow, project: ProjectRow, organisation: OrganisationRow, now: float) -> _Known:
    scopes: frozenset[Scope] = frozenset(key.scopes)  # type: ignore[arg-type]  # written by us
    before = None
    if key.previous_salt is not None and key.previous_digest is not None:
        before = Digest(key.previous_salt, key.previous_digest)
    return _Known(
        Caller(
            project.id,
            organisation.id,
            organisation.name,
            scopes,
            (*_payers(key), *_payers(project)),
            key.id,
        ),
        Digest(key.salt, key.digest),
        before,
        key.previous_until or 0,
        key.expires,
        key.revoked is not None,
        now,
    )


def _payers(row: KeyRow | ProjectRow) -> tuple[Payer, ...]:
    if row.requests_per_minute is None and row.tokens_per_minute is None:
        return ()
    return (Payer(row.id, row.requests_per_minute, row.tokens_per_minute),)
