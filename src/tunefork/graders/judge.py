"""The `judge` grader: a model compares the answer with the reference, in both orders.

Models prefer what stands first (Zheng et al., "Judging LLM-as-a-Judge", 2023), so each pair is
shown twice, swapped, and a preference counts only where it survives. How far a judge can be
trusted is measured: `agreement` with people's marks of the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tunefork.graders.grade import Failure, Grade, failed, shown
from tunefork.graders.modelled import Sampling
from tunefork.graders.queries import AskingGrader, AskModel, Query, Reply
from tunefork.graders.text import Text

_TASK = """\
You compare two answers to one question. Judge only by this: {criteria}
Do not let the order or the length of the answers influence you.
Reply with one letter and nothing else: A if answer A is better, B if answer B is better, \
T if neither is."""
_PAIR = "Question:\n{question}\n\nAnswer A:\n{a}\n\nAnswer B:\n{b}"
# Half a mark where the judge sees no difference, as in tables of chess.
_POINTS = {"A": 1.0, "T": 0.5, "B": 0.0}


class Judge(AskingGrader):
    """A model finds the answer at least as good as the reference.

    Score 1: better in both orders; 0: worse in both; 0.5: no difference, or the judge only
    prefers a place. The question's text is `item.question`.
    """

    type: Literal["judge"] = "judge"
    name: str = "judge"
    reference: Text
    criteria: Text = "which answer is more correct and more helpful"
    model: str | None = None
    sampling_params: Sampling = Sampling()
    pass_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    uses_item = True

    def queries(self, answer: str) -> tuple[Query, ...]:
        """Ask with the answer as A, then as B."""
        return (self._asked(answer, self.reference), self._asked(self.reference, answer))

    def conclude(self, answer: str, replies: Sequence[Reply]) -> Grade:
        """Take the mean of both orders."""
        for reply in replies:
            if isinstance(reply, Failure):
                return failed(reply)
        as_a, as_b = (_letter(str(reply)) for reply in replies)
        if as_a is None or as_b is None:
            wrong = replies[0] if as_a is None else replies[1]
            message = f"the judge replied {shown(str(wrong))}, not A, B or T"
            return failed(Failure("model_grader_parse_error", message))
        score = (_POINTS[as_a] + 1 - _POINTS[as_b]) / 2
        detail = {1.0: "better in both orders", 0.0: "worse in both orders"}.get(score)
        if detail is None:
            same_place = as_a == as_b != "T"
            detail = f"the judge prefers place {as_a}" if same_place else "no clear difference"
        return Grade(score, score >= self.pass_threshold, detail)

    def describe(self) -> str:
        """Name the reference."""
        return f"{self.model or 'a model'} finds it as good as {shown(self.reference)}"

    def _asked(self, a: str, b: str) -> AskModel:
        question = str(self._item.get("question", "(not given)"))
        messages = (
            {"role": "system", "content": _TASK.format(criteria=self.criteria)},
            {"role": "user", "content": _PAIR.format(question=question, a=a, b=b)},
        )
        return AskModel(messages, self.model, self.sampling_params.model_dump(exclude_none=True))


@dataclass(frozen=True)
class Agreement:
    """How often a grader and people say the same.

    Attributes:
        n: Answers that both marked.
        share: Of them, the share on which they agree.
        kappa: Cohen's kappa: 1 for full agreement, 0 for what chance would give.
    """

    n: int
    share: float
    kappa: float


def agreement(grades: Sequence[Grade], people: Sequence[bool]) -> Agreement:
    """Compare passes with people's; answers that the grader could not mark are left out.

    With p the share of agreement and e what two independent markers with the same rates would
    reach, kappa = (p - e) / (1 - e). Cohen, "A Coefficient of Agreement", 1960.

    Raises:
        ValueError: There is nothing to compare.
    """
    pairs = [
        (grade.passed, person)
        for grade, person in zip(grades, people, strict=True)
        if grade.error is None and not grade.is_pending
    ]
    if not pairs:
        raise ValueError("no answer was marked by both")
    n = len(pairs)
    share = sum(a == b for a, b in pairs) / n
    ours, theirs = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    chance = ours * theirs + (1 - ours) * (1 - theirs)
    # Where both always say the same one thing, chance explains it as well.
    return Agreement(n, share, (share - chance) / (1 - chance) if chance < 1 else 0.0)


def _letter(reply: str) -> str | None:
    letter = reply.strip().strip("*().:\"'` ").upper()
    letter = {"TIE": "T", "ANSWER A": "A", "ANSWER B": "B"}.get(letter, letter)
    return letter if letter in _POINTS else None
