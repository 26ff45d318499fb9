"""What a grader needs besides an answer: programs that are run, models that are asked by name."""

from __future__ import annotations

from collections.abc import Iterator

from tunefork.graders.grade import Grader
from tunefork.graders.judge import Judge
from tunefork.graders.modelled import LabelModel, ScoreModel
from tunefork.graders.multi import Multi
from tunefork.graders.python import Python


def runs_programs(grader: Grader) -> bool:
    """Say whether marking by it runs a program of its author's."""
    return any(isinstance(each, Python) for each in _parts(grader))


def named_models(grader: Grader) -> frozenset[str]:
    """Return the models that it asks by name."""
    asking = (each for each in _parts(grader) if isinstance(each, ScoreModel | LabelModel | Judge))
    return frozenset(each.model for each in asking if each.model is not None)


def _parts(grader: Grader) -> Iterator[Grader]:
    yield grader
    if isinstance(grader, Multi):
        for each in grader.graders.values():
            yield from _parts(each)
