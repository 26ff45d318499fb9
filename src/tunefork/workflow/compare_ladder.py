"""What is to be measured, who climbs it, and the ladder that comes of it."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunefork.core.errors import InputError, UsageError, did_you_mean
from tunefork.core.events import Noted, Sink, Warned
from tunefork.evaluation import (
    RUNGS,
    GoldenQuestion,
    Ladder,
    Prices,
    Recommendation,
    build_ladder,
    foresee,
)
from tunefork.models import Base
from tunefork.workflow.compare_reference import Reference
from tunefork.workflow.compare_rows import Rows, example_rows
from tunefork.workflow.compare_rungs import Climber, Step, documents_index
from tunefork.workflow.opened import chat_model, renderer_of
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project

TUNED_RUNGS = ("tuned", "tuned+retrieval")
WITHOUT_TRAINING = ("prompt", "retrieval", "prompt+retrieval")
_ON_REQUEST = ("larger", "reference")
_AS_THEY_ARE = {"base", "tuned", "reference"}  # nothing about them is chosen by the user's rows


@dataclass(frozen=True)
class Wanted:
    """What the user asks to be measured.

    Attributes:
        rungs: Their names.
        larger: The base of the rung `larger`.
        reference: The model of the rung `reference`.
    """

    rungs: tuple[str, ...] = tuple(name for name in RUNGS if name not in _ON_REQUEST)
    larger: Base | None = None
    reference: Reference | None = None

    @property
    def is_tuned(self) -> bool:
        """Whether a tuned model is asked for."""
        return not set(TUNED_RUNGS).isdisjoint(self.rungs)


def wanted(
    names: str | None = None, larger: Base | None = None, reference: Reference | None = None
) -> Wanted:
    """Return what is to be measured.

    Args:
        names: Rungs with commas between; all that can be climbed where it is None.
        larger: A base to measure beside.
        reference: A server's model to measure beside.

    Raises:
        UsageError: There is no such rung.
    """
    given = [name.strip() for name in names.split(",")] if names is not None else [*Wanted().rungs]
    for name in given:
        if name not in RUNGS:
            hint = did_you_mean(name, list(RUNGS)) or f"there are {', '.join(RUNGS)}"
            raise UsageError(f"there is no rung `{name}`", hint=hint)
    asked = {"larger": larger, "reference": reference}
    for name in _ON_REQUEST:
        if name in given and asked[name] is None:
            raise UsageError(f"the rung `{name}` needs `--{name}`", hint="name what to measure")
    # All are measured against the base, and what goes with a tuned model goes with its own rung.
    chosen = {"base", *given, *(name for name in _ON_REQUEST if asked[name] is not None)}
    chosen |= {"tuned"} if "tuned+retrieval" in chosen else set()
    return Wanted(tuple(name for name in RUNGS if name in chosen), larger, reference)


@dataclass(frozen=True)
class Climb:
    """The climber, and what is known already of rungs that it cannot climb."""

    climber: Climber
    wanted: Wanted
    project: Project
    missing: dict[str, str]  # (rung, reason)

    def others(self) -> list[Step]:
        """Climb a larger base and a server's model, where they are asked for.

        What is wrong with them is told, and the rest of the ladder stands.
        """
        steps: list[Step] = []
        if self.wanted.larger is not None:
            with self._going_on("larger"):
                steps += self._larger(self.wanted.larger)
        if self.wanted.reference is not None:
            with self._going_on("reference"):
                today = datetime.date.today().isoformat()
                steps += self.climber.on_reference(self.wanted.reference, today)
        return steps

    def ladder(self, steps: Sequence[Step], confidence: float) -> Ladder:
        """Return the ladder of what was climbed."""
        climbed = {step.climbed.name for step in steps}
        skipped = [
            (name, self.missing.get(name, "nothing was trained"))
            for name in self.wanted.rungs
            if name not in climbed
        ]
        groups = [question.group for question in self.climber.golden]
        return build_ladder([step.climbed for step in steps], groups, confidence, skipped)

    def _larger(self, base: Base) -> list[Step]:
        chat = chat_model(base, renderer_of(base, self.project.spec.date))
        return self.climber.on_larger(chat, base)

    @contextlib.contextmanager
    def _going_on(self, rung: str) -> Iterator[None]:
        """Turn what is wrong with one rung into the reason why it is missing."""
        try:
            yield
        except InputError as error:
            where = f"{error.where}: " if error.where else ""
            self.missing[rung] = f"{where}{error.message}"
            hint = f" ({error.hint})" if error.hint else ""
            self.climber.sink(Warned(f"`{rung}` is left out: {self.missing[rung]}{hint}"))


def start_climb(
    project: Project,
    prepared: Prepared,
    golden: tuple[GoldenQuestion, ...],
    wanted: Wanted,
    sink: Sink,
) -> Climb:
    """Return who climbs the ladder, with all that is needed of the user's rows and documents."""
    foresight = foresee([question.group for question in golden], project.spec.gate.settings())
    sink(Noted(f"{foresight}."))
    missing: dict[str, str] = {}
    with_documents = [name for name in wanted.rungs if "retrieval" in name]
    index = None
    if with_documents:
        index, why = documents_index(project, sink)
        missing = {name: why for name in with_documents if index is None}
    climber = Climber(
        golden=golden,
        goal=project.spec.goal.strip(),
        rows=Rows() if set(wanted.rungs) <= _AS_THEY_ARE else example_rows(project, prepared),
        index=index,
        wanted=frozenset(wanted.rungs),
        prices=Prices(**project.spec.prices.model_dump()),
        sink=sink,
    )
    return Climb(climber, wanted, project, missing)


def find_step(steps: Sequence[Step], name: str) -> Step | None:
    """Return the step of a rung."""
    return next((step for step in steps if step.climbed.name == name), None)


def ladder_summary(ladder: Ladder | None, recommendation: Recommendation | None) -> dict[str, Any]:
    """Return the ladder as plain data: rungs by name, what is missing, and what to take."""
    if ladder is None or recommendation is None:
        return {"questions": 0, "facts": 0, "rungs": {}, "skipped": {}, "recommendation": None}
    return {
        "questions": len(ladder.groups),
        "facts": len(set(ladder.groups)),
        "rungs": {rung.name: rung.as_dict() for rung in ladder.rungs},
        "skipped": dict(ladder.skipped),
        "recommendation": asdict(recommendation),
    }


def ladder_answers(ladder: Ladder) -> dict[str, list[dict[str, Any]]]:
    """Return what each rung answered, question by question."""
    return {
        rung.name: [
            {"group": group, "answer": answer, "score": grade.score}
            for group, answer, grade in zip(
                ladder.groups, rung.climbed.answers, rung.climbed.grades, strict=True
            )
        ]
        for rung in ladder.rungs
    }
