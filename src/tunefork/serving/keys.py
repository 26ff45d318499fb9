"""Make, change and list projects and keys: what `tunefork keys` does.

It writes to the server's database, whether a server runs or not; one that runs sees it within a
second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tunefork.core.errors import InputError, UsageError, did_you_mean
from tunefork.serving.callers import LOCAL, USUAL_SCOPES, Scope
from tunefork.serving.ids import new_id, now
from tunefork.serving.key_tables import KeyRow, OrganisationRow, ProjectRow
from tunefork.serving.key_text import key_text, new_secret
from tunefork.serving.store import Store

# It stands in the names of models, between colons.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


@dataclass(frozen=True)
class PerMinute:
    """Limits; None is none."""

    requests: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class NewKey:
    """What a key is to be.

    Attributes:
        project: The project's name.
        name: What the key is for, in words.
        scopes: What may be done with it.
        lasts_s: How long it is good; None for ever.
        limits: Its own limits; the project's count besides.
    """

    project: str = LOCAL
    name: str = ""
    scopes: Sequence[Scope] = USUAL_SCOPES
    lasts_s: int | None = None
    limits: PerMinute = PerMinute()


def create_key(store: Store, wanted: NewKey) -> dict[str, Any]:
    """Make a key; `key` in what is returned is the only time that its secret is seen.

    Raises:
        InputError: There is no such project.
    """
    secret, kept = new_secret()
    with store.writing() as session:
        project = _project(session, wanted.project)
        row = KeyRow(
            id=new_id("key_"),
            project_id=project.id,
            name=wanted.name,
            scopes=sorted(set(wanted.scopes)),
            salt=kept.salt,
            digest=kept.digest,
            created=now(),
            expires=now() + wanted.lasts_s if wanted.lasts_s is not None else None,
            requests_per_minute=wanted.limits.requests,
            tokens_per_minute=wanted.limits.tokens,
        )
        session.add(row)
        return {**_shown(row, project), "key": key_text(row.id, secret)}


def rotate_key(store: Store, key_id: str, grace_s: int = 0) -> dict[str, Any]:
    """Give a key another secret; the one before is good for `grace_s` seconds more.

    Raises:
        InputError: There is no such key, or it is revoked.
    """
    secret, kept = new_secret()
    with store.writing() as session:
        row = _key(session, key_id)
        if row.revoked is not None:
            raise InputError(f"the key `{row.id}` is revoked", hint="make another one")
        row.previous_salt, row.previous_digest = row.salt, row.digest
        row.previous_until = now() + grace_s
        row.salt, row.digest = kept.salt, kept.digest
        project = session.scalars(select(ProjectRow).where(ProjectRow.id == row.project_id)).one()
        return {**_shown(row, project), "key": key_text(row.id, secret)}


def revoke_key(store: Store, key_id: str) -> dict[str, Any]:
    """Let a key open nothing any more.

    Raises:
        InputError: There is no such key.
    """
    with store.writing() as session:
        row = _key(session, key_id)
        row.revoked = row.revoked if row.revoked is not None else now()
        project = session.scalars(select(ProjectRow).where(ProjectRow.id == row.project_id)).one()
        return _shown(row, project)


def list_keys(store: Store) -> list[dict[str, Any]]:
    """Return all keys, the newest first, without their secrets."""
    query = select(KeyRow, ProjectRow).join(ProjectRow, ProjectRow.id == KeyRow.project_id)
    with store.reading() as session:
        found = session.execute(query.order_by(KeyRow.number.desc())).all()
    return [_shown(row, project) for row, project in found]


def forget_keys(store: Store) -> int:
    """Remove every key, so that this machine is answered without one again."""
    with store.writing() as session:
        count = session.scalar(select(func.count()).select_from(KeyRow)) or 0
        session.execute(delete(KeyRow))
    return count


def set_project(
    store: Store, name: str, organisation: str | None, limits: PerMinute
) -> dict[str, Any]:
    """Make a project, or change the limits of one that is there.

    Args:
        store: The server's.
        name: Its name.
        organisation: The name of its organisation, made where there is none; by default one of
            the project's own name.
        limits: Those that are to change; 0 is none any more.

    Raises:
        UsageError: A name cannot be one.
        InputError: The project is another organisation's.
    """
    with store.writing() as session:
        row = session.scalars(select(ProjectRow).where(ProjectRow.name == name)).first()
        if row is None:
            owner = _organisation(session, organisation or name)
            row = ProjectRow(
                id=new_id("proj_"), organisation_id=owner.id, name=_checked(name), created=now()
            )
            session.add(row)
        else:
            known = session.scalars(
                select(OrganisationRow).where(OrganisationRow.id == row.organisation_id)
            ).one()
            if organisation not in (None, known.name):
                raise InputError(
                    f"the project `{name}` belongs to `{known.name}`", hint="choose another name"
                )
        if limits.requests is not None:
            row.requests_per_minute = limits.requests or None
        if limits.tokens is not None:
            row.tokens_per_minute = limits.tokens or None
        session.flush()
        return _shown_project(session, row)


def list_projects(store: Store) -> list[dict[str, Any]]:
    """Return all projects, the oldest first."""
    with store.reading() as session:
        rows = session.scalars(select(ProjectRow).order_by(ProjectRow.number)).all()
        return [_shown_project(session, row) for row in rows]


def _organisation(session: Session, name: str) -> OrganisationRow:
    row = session.scalars(select(OrganisationRow).where(OrganisationRow.name == name)).first()
    if row is None:
        row = OrganisationRow(id=new_id("org-"), name=_checked(name), created=now())
        session.add(row)
    return row


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"`{name[:60]}` cannot be a name",
            hint="take up to 40 small letters, digits, dots, dashes and underscores",
        )
    return name


def _project(session: Session, name: str) -> ProjectRow:
    row = session.scalars(select(ProjectRow).where(ProjectRow.name == name)).first()
    if row is None:
        near = did_you_mean(name, list(session.scalars(select(ProjectRow.name))))
        hint = near or f"make it with `tunefork keys project {name}`"
        raise InputError(f"there is no project `{name}`", hint=hint)
    return row


def _key(session: Session, key_id: str) -> KeyRow:
    row = session.scalars(select(KeyRow).where(KeyRow.id == key_id)).first()
    if row is None:
        hint = "`tunefork keys list` shows what there is; give the id, not the secret"
        raise InputError("there is no key with this id", hint=hint)
    return row


def _shown(row: KeyRow, project: ProjectRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "project": project.name,
        "project_id": project.id,
        "scopes": list(row.scopes),
        "status": _status(row),
        "created": row.created,
        "expires": row.expires,
        "requests": row.requests_per_minute,  # a minute
        "tokens": row.tokens_per_minute,
    }


def _status(row: KeyRow) -> str:
    if row.revoked is not None:
        return "revoked"
    return "expired" if row.expires is not None and row.expires <= now() else "good"


def _shown_project(session: Session, row: ProjectRow) -> dict[str, Any]:
    query = select(OrganisationRow.name).where(OrganisationRow.id == row.organisation_id)
    keys = select(func.count()).where(KeyRow.project_id == row.id)
    return {
        "id": row.id,
        "name": row.name,
        "organisation": session.scalar(query),
        "organisation_id": row.organisation_id,
        "keys": session.scalar(keys),
        "requests": row.requests_per_minute,  # a minute
        "tokens": row.tokens_per_minute,
    }
