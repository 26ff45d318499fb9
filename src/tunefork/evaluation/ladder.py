"""The ladder: ways to better answers, the least effort first, on the same questions. Pure data.

    base               as it is
    prompt             behind a system prompt and examples like the question
    retrieval          with passages of documents
    prompt+retrieval
    tuned
    tuned+retrieval
    larger             a larger base behind its best prompt
    reference          any server's model: a yardstick, never recommended

Entry points: `build_ladder`, and `evaluation.recommend.recommend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunefork.evaluation.power import holm
from tunefork.evaluation.statistics import Interval, PairedResult, interval, paired_test
from tunefork.graders import Grade

BASE, PROMPT, RETRIEVAL, TUNED, LARGER, REFERENCE = (
    "base",
    "prompt",
    "retrieval",
    "tuned",
    "larger",
    "reference",
)
PROMPT_RETRIEVAL = f"{PROMPT}+{RETRIEVAL}"
TUNED_RETRIEVAL = f"{TUNED}+{RETRIEVAL}"
# In the order of what it takes to have and to keep them.
RUNGS = (
    BASE,
    PROMPT,
    RETRIEVAL,
    PROMPT_RETRIEVAL,
    TUNED,
    TUNED_RETRIEVAL,
    LARGER,
    REFERENCE,
)
_PER = 1000  # answers that costs are given for


@dataclass(frozen=True)
class Prices:
    """What the user pays, in any currency; None for what costs nothing or is not known."""

    input_per_million: float | None = None
    output_per_million: float | None = None
    per_hour: float | None = None  # of the machine that answers

    def of(self, tokens_in: float, tokens_out: float, seconds: float) -> float | None:
        """Return the price of an answer: of the machine's time where it has one, else of tokens."""
        if self.per_hour is not None:
            return self.per_hour * seconds / 3600
        if self.input_per_million is None and self.output_per_million is None:
            return None
        per_token = (self.input_per_million or 0.0, self.output_per_million or 0.0)
        return (per_token[0] * tokens_in + per_token[1] * tokens_out) / 1e6


@dataclass(frozen=True)
class Cost:
    """What an answer takes, as measured.

    Attributes:
        tokens_in: Mean over the questions, prompt and passages included; None where not told.
        tokens_out: Mean of the answers.
        seconds: Per answer, as many at once as the machine takes.
        latency_p50: Of questions asked one at a time, in seconds.
        latency_p95: The same.
        timed: How many were asked one at a time.
        memory_bytes: Weights, and the index where there is one; None where it is not ours.
        money: Of 1,000 answers, at the user's prices.
    """

    tokens_in: float | None
    tokens_out: float | None
    seconds: float
    latency_p50: float | None = None
    latency_p95: float | None = None
    timed: int = 0
    memory_bytes: int | None = None
    money: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with the figures for 1,000 answers."""
        thousand = {
            "tokens_in": None if self.tokens_in is None else round(self.tokens_in * _PER),
            "tokens_out": None if self.tokens_out is None else round(self.tokens_out * _PER),
            "seconds": self.seconds * _PER,
            "money": self.money,
        }
        return {**asdict(self), "per_1000": thousand}


@dataclass(frozen=True)
class Climbed:
    """What one rung answered, in the order of the questions, and what it took.

    Attributes:
        name: One of `RUNGS`.
        answers: Its texts.
        grades: Of each.
        cost: Per answer.
        effort: What has to be done to have it, in words.
        settings: What was chosen for it: template, examples, passages.
        bundle: What the registry calls it; None where it is not ours or not written down.
    """

    name: str
    answers: tuple[str, ...]
    grades: tuple[Grade, ...]
    cost: Cost
    effort: str
    settings: str = ""
    bundle: str | None = None

    @property
    def scores(self) -> list[float]:
        """The grade of each answer, from 0 to 1."""
        return [grade.score for grade in self.grades]


@dataclass(frozen=True)
class Against:
    """A rung compared with another one, question by question."""

    other: str
    paired: PairedResult
    p_value: float  # corrected for all comparisons of the ladder (Holm)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        paired = self.paired
        return {
            "other": self.other,
            "gain": paired.gain,
            "low": paired.low,
            "high": paired.high,
            "p_value": paired.p_value,
            "p_corrected": self.p_value,
        }


@dataclass(frozen=True)
class Rung:
    """One rung as measured and compared; None where there is nothing to compare with."""

    climbed: Climbed
    score: Interval
    over_base: Against | None
    over_cheaper: Against | None  # the best of the rungs before it

    @property
    def name(self) -> str:
        """One of `RUNGS`."""
        return self.climbed.name

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, without the single answers."""
        return {
            "score": self.score.mean,
            "low": self.score.low,
            "high": self.score.high,
            "over_base": self.over_base.as_dict() if self.over_base else None,
            "over_cheaper": self.over_cheaper.as_dict() if self.over_cheaper else None,
            "cost": self.climbed.cost.as_dict(),
            "effort": self.climbed.effort,
            "settings": self.climbed.settings,
            "bundle": self.climbed.bundle,
        }


@dataclass(frozen=True)
class Ladder:
    """All rungs that answered, in the order of `RUNGS`, and why others did not.

    Attributes:
        rungs: What was measured.
        skipped: (rung, reason as a sentence) of those that could not be.
        groups: The fact that each question asks about.
        confidence: Of all intervals and tests.
    """

    rungs: tuple[Rung, ...]
    skipped: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]
    confidence: float

    def find(self, name: str) -> Rung | None:
        """Return a rung by its name."""
        return next((rung for rung in self.rungs if rung.name == name), None)

    def compare(self, name: str, with_name: str, confidence: float | None = None) -> PairedResult:
        """Test one rung against another, question by question; a gain is the first one's."""
        first, other = self.find(name), self.find(with_name)
        assert first is not None, f"`{name}` was not measured"
        assert other is not None, f"`{with_name}` was not measured"
        scores = (other.climbed.scores, first.climbed.scores)
        return paired_test(*scores, self.groups, confidence or self.confidence)


def build_ladder(
    climbed: Sequence[Climbed],
    groups: Sequence[str],
    confidence: float,
    skipped: Sequence[tuple[str, str]] = (),
) -> Ladder:
    """Compare rungs that answered the same questions.

    Each is tested against the base and against the best rung before it. All of these are one
    family: their p-values are corrected by Holm's method.
    """
    ordered = sorted(climbed, key=lambda each: RUNGS.index(each.name))
    scores = {each.name: interval(each.scores, groups, confidence) for each in ordered}
    others = {each.name: _others(each.name, scores) for each in ordered}
    pairs = list(dict.fromkeys((name, other) for name, two in others.items() for other in two))
    by_name = {each.name: each for each in ordered}
    found = {
        (name, other): paired_test(by_name[other].scores, by_name[name].scores, groups, confidence)
        for name, other in pairs
    }
    corrected = holm({pair: each.p_value for pair, each in found.items()})
    tested = {pair: Against(pair[1], each, corrected[pair]) for pair, each in found.items()}
    rungs = []
    for each in ordered:
        over = [tested[each.name, other] for other in others[each.name]]
        is_over_base = bool(over) and over[0].other == BASE
        rungs.append(
            Rung(
                each,
                scores[each.name],
                over_base=over[0] if is_over_base else None,
                over_cheaper=over[-1] if over else None,
            )
        )
    return Ladder(tuple(rungs), tuple(skipped), tuple(groups), confidence)


def _others(name: str, scores: dict[str, Interval]) -> list[str]:
    """Return what a rung is tested against: the base, and the best before it; once if the same."""
    before = [other for other in scores if RUNGS.index(other) < RUNGS.index(name)]
    if not before:
        return []
    best = max(before, key=lambda other: scores[other].mean)  # the first of equals
    return list(dict.fromkeys([*([BASE] if BASE in before else []), best]))


def break_even(training_seconds: float, dearer: Cost, cheaper: Cost) -> int | None:
    """Return after how many answers a training is paid back in machine time; None if never."""
    saved = dearer.seconds - cheaper.seconds
    return round(training_seconds / saved) if saved > 0 else None
