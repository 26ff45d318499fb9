"""Mark many answers at once: models are asked in one batch, programs keep their process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from tunefork.core.errors import DataError, InternalError, Where
from tunefork.graders.grade import Failure, Grade, Grader
from tunefork.graders.queries import Ask, AskingGrader, AskModel, Query, Reply
from tunefork.graders.sandbox import Sandbox

Progress = Callable[[int, int], None]
_NOBODY = Failure("model_grader_server_error", "this grader asks a model, and none was given")


def grade_many(
    graders: Sequence[Grader],
    answers: Sequence[str],
    *,
    ask: Ask | None = None,
    sandbox: Sandbox | None = None,
    progress: Progress | None = None,
) -> list[Grade]:
    """Mark each answer by the grader of the same place.

    Args:
        graders: One per answer.
        answers: What was said.
        ask: Asks a model all questions of all graders, and returns as many replies; without
            it, graders that need one fail with an error in their grade.
        sandbox: Runs programs; without it the best one that this machine has is opened.
        progress: Called with the number of marks made and of all, after each.
    """
    pairs = list(zip(graders, answers, strict=True))
    queries = [
        grader.queries(answer) if isinstance(grader, AskingGrader) else ()
        for grader, answer in pairs
    ]
    said = _replies([q for each in queries for q in each if isinstance(q, AskModel)], ask)
    grades: list[Grade] = []
    with ExitStack() as opened:
        box = sandbox or opened.enter_context(Sandbox())  # starts nothing before it is used
        for (grader, answer), asked in zip(pairs, queries, strict=True):
            grades.append(_mark(grader, answer, asked, said, box))
            if progress is not None:
                progress(len(grades), len(pairs))
    return grades


def require_graded(grades: Sequence[Grade], where: Where | None = None) -> None:
    """Let a run go on if its graders worked at all.

    Raises:
        DataError: There are grades, and for every single one the grader failed.
    """
    if grades and all(grade.error is not None for grade in grades):
        reason = grades[0].detail.removeprefix("not graded: ")
        raise DataError(
            f"no answer could be graded ({len(grades)} tried): {reason}",
            where=where,
            hint="repair the grader, or choose another one",
        )


def _replies(asked: list[AskModel], ask: Ask | None) -> Iterator[str | Failure]:
    if not asked:
        return iter(())
    if ask is None:
        return iter([_NOBODY] * len(asked))
    replies = ask(asked)
    if len(replies) != len(asked):
        raise InternalError(f"{len(asked)} questions to a model got {len(replies)} replies")
    return iter(replies)


def _mark(
    grader: Grader,
    answer: str,
    queries: Sequence[Query],
    said: Iterator[str | Failure],
    sandbox: Sandbox,
) -> Grade:
    if not isinstance(grader, AskingGrader):
        return grader.grade(answer)
    replies: list[Reply] = [
        next(said)
        if isinstance(query, AskModel)
        else sandbox.run(query.source, query.sample, query.item)
        for query in queries
    ]
    return grader.conclude(answer, replies)
