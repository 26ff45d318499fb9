"""OpenAI's `python`: a program of the user's that marks the answer, run in the sandbox."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator

from tunefork.graders.grade import Failure, Grade, failed
from tunefork.graders.openai import Threshold
from tunefork.graders.queries import AskingGrader, Query, Reply, RunPython
from tunefork.graders.templates import sample_of

_SHAPE = "write `def grade(sample, item):` and return a number"


class Python(AskingGrader):
    """`source` defines `grade(sample, item)`, which returns a number from 0 to 1.

    `sample` has `output_text` and `output_json`; `item` has the question's fields. A number
    outside 0 to 1 counts as the nearer end, and `Grade.value` keeps it. A program that raises,
    takes too long or returns anything else scores 0, with the reason. The same program runs
    for all answers of a batch, so it must not remember what it saw.
    """

    type: Literal["python"] = "python"
    name: str = "python"
    source: Annotated[str, StringConstraints(min_length=1, max_length=256_000)]
    image_tag: str | None = None  # OpenAI's; here the program sees the packages of this Python
    pass_threshold: Threshold = 0.5
    reference_setting = None
    uses_item = True

    @field_validator("source")
    @classmethod
    def _defines_grade(cls, source: str) -> str:
        try:
            program = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"not a Python program: {error}") from error
        names = [node.name for node in program.body if isinstance(node, ast.FunctionDef)]
        if "grade" not in names:
            raise ValueError(f"it defines no function `grade`; {_SHAPE}")
        return source

    def queries(self, answer: str) -> tuple[Query, ...]:
        """Return one run."""
        return (RunPython(self.source, sample_of(answer), self._item),)

    def conclude(self, answer: str, replies: Sequence[Reply]) -> Grade:
        """Take the number."""
        (reply,) = replies
        if isinstance(reply, Failure):
            return failed(reply)
        value = float(reply)
        score = min(1.0, max(0.0, value))
        outside = "" if score == value else f", counted as {score:g}"
        passed = value >= self.pass_threshold
        return Grade(score, passed, f"returned {value:g}{outside}", value=value)

    def describe(self) -> str:
        """Name the program."""
        return f"program {self.name} returns at least {self.pass_threshold:g}"
