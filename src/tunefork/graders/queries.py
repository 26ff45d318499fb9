"""What a grader may have to ask outside itself before it can mark: a model, or the sandbox.

Such a grader stays a value without side effects: `queries` says what to ask, the caller asks,
`conclude` marks by the replies. So a model can answer many questions in one batch, and graders
know of no model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunefork.graders.grade import Failure, Grade, Grader

Message = Mapping[str, str]


@dataclass(frozen=True)
class AskModel:
    """Ask a model.

    Attributes:
        messages: `role` and `content` of each turn.
        model: The model that the grader's author named, if any.
        sampling: `temperature`, `max_completions_tokens`, `seed` and the like, if given.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPython:
    """Run `grade(sample, item)` of a program in the sandbox."""

    source: str
    sample: Mapping[str, Any]
    item: Mapping[str, Any]


Query = AskModel | RunPython
Reply = str | float | Failure
# All questions at once, one reply each: a text, or why there is none.
Ask = Callable[[Sequence[AskModel]], Sequence[str | Failure]]

_NOBODY = Failure("other_error", "it asks a model or runs a program; mark it with `grade_many`")


class AskingGrader(Grader):
    """A grader that marks by replies from outside; `grade_many` asks for it."""

    @abstractmethod
    def queries(self, answer: str) -> tuple[Query, ...]:
        """Return what to ask about one answer; the same answer, the same queries."""

    @abstractmethod
    def conclude(self, answer: str, replies: Sequence[Reply]) -> Grade:
        """Mark one answer by the replies to its queries, in their order; never raises."""

    def grade(self, answer: str) -> Grade:
        """Say that there is nobody to ask: `grade_many` has a model and a sandbox."""
        return self.conclude(answer, [_NOBODY for _ in self.queries(answer)])
