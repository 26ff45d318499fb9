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
from tunefork.registry.tables import AliasEvent, Evaluation, Model, Run, now

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


def verdict_of(session: Session, model: str, until: str | None = None) -> str | None:
    """Return what the gate said last of a model, or had said at a time; None where it never did."""
    query = select(Evaluation.verdict).where(
        Evaluation.model == model, Evaluation.verdict.is_not(None)
    )
    if until is not None:
        query = query.where(Evaluation.created <= until)
    return session.scalars(query.order_by(Evaluation.number.desc())).first()


def promote(
    session: Session, model: Model, alias: str, reason: str | None, *, is_forced: bool = False
) -> dict[str, Any]:
    """Let an alias stand for a model from now on.

    Args:
        session: Of `Registry.writing`.
        model: What it shall stand for; the gate must have said `ship`.
        alias: A word.
        reason: Why, for the history.
        is_forced: Promote it whatever the gate said. There must be a reason then.

    Raises:
        ModelError: The alias is no word, or the name of something else; or the gate did not say
            `ship`, and the promotion is not forced.
    """
    assert reason or not is_forced, "who forces a promotion says why"
    _check_name(session, alias)
    events = events_of(session, alias)
    before = events[-1].model if events else None
    verdict = verdict_of(session, model.name)
    if before != model.name:
        if verdict != "ship" and not is_forced:
            raise _not_to_ship(model.name, verdict)
        action = "promote" if verdict == "ship" else "force"
        _append(session, events, alias, action, model.name, reason)
    return {"alias": alias, "model": model.name, "before": before, "verdict": verdict}


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
        if each.action == "rollback":
            stack.pop()
        else:
            stack.append(each.model)
    if len(stack) < 2:
        raise ModelError(
            f"`{alias}` stood for nothing before `{stack[-1]}`",
            hint=f"promote another model: tunefork promote MODEL {alias}",
        )
    _append(session, events, alias, "rollback", stack[-2], reason)
    verdict = verdict_of(session, stack[-2])
    return {"alias": alias, "model": stack[-2], "before": stack[-1], "verdict": verdict}


def _not_to_ship(model: str, verdict: str | None) -> ModelError:
    said = f"its verdict is `{verdict}`" if verdict else "it was never measured against its base"
    return ModelError(
        f"`{model}` is not to be promoted: {said}",
        hint="`tunefork run` measures and decides; `--force REASON` promotes it all the same, "
        "and keeps the reason",
    )


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
