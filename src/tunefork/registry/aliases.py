"""Names that stand for a model until they are moved: `production`, say. Their history stays.

An alias stands for what its last event says. `rollback` goes back to what it stood for before the
promotion that it stands for now, so twice rolled back is two promotions back.
"""

from __future__ import annotations

import getpass
import re
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.errors import ModelError
from tunefork.registry.files import insert
from tunefork.registry.tables import AliasEvent, Model, Run, now

_WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_TAKEN = {"tiny"}


def events_of(session: Session, alias: str) -> list[AliasEvent]:
    """Return an alias's events, the first one first."""
    query = select(AliasEvent).where(AliasEvent.alias == alias).order_by(AliasEvent.number)
    return list(session.scalars(query))


def current_aliases(session: Session) -> dict[str, AliasEvent]:
    """Return the last event of each alias."""
    query = select(AliasEvent).order_by(AliasEvent.alias, AliasEvent.number)
    return {each.alias: each for each in session.scalars(query)}


def promote(session: Session, model: Model, alias: str, reason: str | None) -> dict[str, Any]:
    """Let an alias stand for a model from now on.

    Raises:
        ModelError: The alias is no word, or the name of something else.
    """
    _check_name(session, alias)
    events = events_of(session, alias)
    before = events[-1].model if events else None
    if before != model.name:
        _append(session, events, alias, "promote", model.name, reason)
    return {"alias": alias, "model": model.name, "before": before}


def rollback(session: Session, alias: str, reason: str | None) -> dict[str, Any]:
    """Let an alias stand again for what it stood for before.

    Raises:
        ModelError: There is no such alias, or nothing before.
    """
    events = events_of(session, alias)
    if not events:
        raise ModelError(
            f"there is no alias `{alias}`", hint="`tunefork models list` shows what there is"
        )
    stack: list[str] = []
    for each in events:
        if each.action == "promote":
            stack.append(each.model)
        else:
            stack.pop()
    if len(stack) < 2:
        raise ModelError(
            f"`{alias}` stood for nothing before `{stack[-1]}`",
            hint=f"promote another model: tunefork promote MODEL {alias}",
        )
    _append(session, events, alias, "rollback", stack[-2], reason)
    return {"alias": alias, "model": stack[-2], "before": stack[-1]}


def _append(
    session: Session,
    events: list[AliasEvent],
    alias: str,
    action: str,
    model: str,
    reason: str | None,
) -> None:
    row = AliasEvent(
        alias=alias,
        number=len(events) + 1,
        action=action,
        model=model,
        who=_user(),
        reason=reason,
        created=now(),
        previous_hash=events[-1].row_hash if events else None,
    )
    insert(session, row)


def _check_name(session: Session, alias: str) -> None:
    if not _WORD.fullmatch(alias):
        raise ModelError(
            f"`{alias}` cannot be an alias",
            hint="take a word of letters, digits, `.`, `_` and `-`",
        )
    is_name = session.get(Model, alias) is not None or session.get(Run, alias) is not None
    if alias in _TAKEN or is_name:
        raise ModelError(
            f"`{alias}` is a model's own name already", hint="choose another word as alias"
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "unknown"
