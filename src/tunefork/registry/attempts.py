"""Count the attempts on the same sealed questions; see `evaluation.attempts` for what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.hashing import hash_json
from tunefork.registry.files import insert
from tunefork.registry.tables import Attempt, now


def count_attempt(session: Session, questions: Sequence[str], answers_hash: str) -> int:
    """Return which attempt on sealed questions this is, from 1, and keep it.

    The same evidence on the same questions is the attempt that it was. Other attempts count where
    they share at least half of the questions of either side: leaving out a few questions, or adding
    some, does not begin anew.

    Args:
        session: Of `Registry.writing`.
        questions: A hash of each question.
        answers_hash: Of the evidence: what a model answered.
    """
    asked = set(questions)
    questions_hash = hash_json(sorted(asked))
    known = session.get(Attempt, (questions_hash, answers_hash))
    if known is not None:
        return known.number
    earlier = session.scalars(select(Attempt)).all()
    number = 1 + sum(_is_same(asked, set(each.questions)) for each in earlier)
    row = Attempt(
        questions_hash=questions_hash,
        answers_hash=answers_hash,
        number=number,
        questions=sorted(asked),
        created=now(),
    )
    insert(session, row)
    return number


def _is_same(one: set[str], other: set[str]) -> bool:
    return 2 * len(one & other) >= min(len(one), len(other))
