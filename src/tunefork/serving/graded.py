"""Graders in requests: checked, and asked. Programs run only where the sandbox holds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tunefork.core.errors import InputError
from tunefork.graders import (
    Ask,
    Grade,
    Grader,
    grade_many,
    named_models,
    runs_programs,
    validate_grader,
)
from tunefork.graders.sandbox import Sandbox, Verification, verify
from tunefork.serving.errors import invalid

_AT_ONCE = 8  # requests that mark


class Programs:
    """Checks graders and marks by them.

    The first one that is a program has the sandbox of this machine attacked; where anything does
    not hold, programs are refused from then on. Where all of it does, they run in the very kind of
    sandbox that was seen to hold, never in a lesser one.

    Args:
        check: Attacks the sandbox.
    """

    def __init__(self, check: Callable[[], Verification] = verify) -> None:
        self._check = check
        self._lock = threading.Lock()
        self.turns = asyncio.Semaphore(_AT_ONCE)
        self._found: Verification | None = None

    def checked(self, value: dict[str, Any], param: str) -> Grader:
        """Return the grader that a request gives.

        Raises:
            ApiError: It is none, or a program where programs do not run.
        """
        try:
            grader = validate_grader(value)
            if runs_programs(grader):
                self._verified().require()
        except InputError as error:
            text = error.message + (f" ({error.hint})" if error.hint else "")
            raise invalid(text, param) from error
        return grader

    def checked_for_job(self, value: dict[str, Any], bases: Collection[str], param: str) -> None:
        """Refuse a grader that a worker must not have: it opens models by what it is told.

        Raises:
            ApiError: It is no grader, does not run here, or asks a model that is not in `bases`.
        """
        for name in sorted(named_models(self.checked(value, param))):
            if name not in bases:
                known = ", ".join(f"`{each}`" for each in sorted(bases))
                raise invalid(f"A job's grader asks a base that is served here: {known}.", param)

    def grade(self, graders: Sequence[Grader], answers: Sequence[str], ask: Ask) -> list[Grade]:
        """Mark each answer by the grader of the same place.

        Raises:
            InputError: One is a program, and programs do not run here.
        """
        if not any(runs_programs(grader) for grader in graders):
            return grade_many(graders, answers, ask=ask)
        found = self._verified()
        found.require()
        assert found.isolation is not None, "it was required"
        with Sandbox(isolations=[found.isolation]) as sandbox:
            return grade_many(graders, answers, ask=ask, sandbox=sandbox)

    def _verified(self) -> Verification:
        with self._lock:
            if self._found is None:
                self._found = self._check()
            return self._found
