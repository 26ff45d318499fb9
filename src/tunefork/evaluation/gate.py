"""The gate: may this model ship? A pure function from evidence to a verdict with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunefork.evaluation.probe import Forgetting
from tunefork.evaluation.statistics import PairedResult, questions_needed

PROMPT_RUNG = "prompt"  # the base with the best prompt, as named among the measured rungs
_MANY_QUESTIONS = 10_000
_ROUNDING = 1e-9  # 4 of 80 is a gain of 0.05, whatever the binary fractions say

Decision = Literal["ship", "hold", "undecided"]


@dataclass(frozen=True)
class GateSettings:
    """What the user asks of a model before it ships.

    Attributes:
        min_gain: Least gain in mean score over the base, from 0 to 1.
        confidence: Of all intervals and tests, from 0 to 1.
        max_forgetting: Most that accuracy on the general probe may drop, from 0 to 1.
    """

    min_gain: float = 0.05
    confidence: float = 0.95
    max_forgetting: float = 0.02


@dataclass(frozen=True)
class Evidence:
    """What was measured; None where it was not.

    Attributes:
        paired: Tuned against base on the golden questions.
        forgetting: On the sealed half of the general probe.
        held_out_loss: Mean loss on held-out rows of (base, tuned), in nats per token.
        base_unchanged: Whether the base's files have the same hash as before.
        leaked: How many golden questions are also training prompts.
        measured_rungs: Which rungs of the ladder answered: `base`, `prompt`, `tuned`, ….
    """

    paired: PairedResult | None
    forgetting: Forgetting | None
    held_out_loss: tuple[float, float] | None
    base_unchanged: bool
    leaked: int
    measured_rungs: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """`ship`, `hold` or `undecided`, and every reason, good ones too, as a sentence."""

    verdict: Decision
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Finding:
    """What one part of the evidence says by itself."""

    verdict: Decision
    reason: str


def decide(evidence: Evidence, settings: GateSettings) -> Verdict:
    """Return the verdict.

    One finding that says hold is enough to hold; otherwise one that is open leaves the
    verdict undecided. What was not measured is open. Only the best prompt may be missing:
    then a reason says so.
    """
    findings = [
        _gain(evidence.paired, settings),
        _held_out(evidence.held_out_loss),
        _forgetting(evidence.forgetting, settings),
        _leak(evidence.leaked),
        _base(evidence.base_unchanged),
    ]
    decisions = {finding.verdict for finding in findings}
    ranked: tuple[Decision, ...] = ("hold", "undecided", "ship")
    verdict = next(decision for decision in ranked if decision in decisions)
    # What the verdict rests on comes first.
    findings.sort(key=lambda finding: ranked.index(finding.verdict))
    reasons = [finding.reason for finding in findings]
    if PROMPT_RUNG not in evidence.measured_rungs:
        reasons.append("The best prompt was not measured, so a good prompt alone may do as well.")
    return Verdict(verdict, tuple(reasons))


def _gain(paired: PairedResult | None, settings: GateSettings) -> _Finding:
    if paired is None:
        return _Finding(
            "undecided", "There are no golden questions, so nothing shows that answers improved."
        )
    p_value = p_text(paired.p_value)
    asked = f"{paired.questions} questions about {paired.groups} facts"
    span = f"between {points(paired.low)} and {points(paired.high)} points"
    measured = f"The tuned model gains {points(paired.gain)} points over the base on {asked}"
    need = f"the gate asks for {points(settings.min_gain)}"
    sure = paired.low > 0 and paired.p_value <= 1 - settings.confidence
    enough = paired.gain >= settings.min_gain - _ROUNDING
    if enough and sure:
        return _Finding("ship", f"{measured} ({span}, {p_value}); {need}.")
    if not enough and paired.high < settings.min_gain:
        return _Finding("hold", f"{measured} ({span}, {p_value}), and {need}.")
    return _Finding(
        "undecided",
        f"{measured} ({span}, {p_value}), too few questions to tell whether it is better: "
        f"{need}; {more_questions(paired, settings)}.",
    )


def more_questions(paired: PairedResult, settings: GateSettings) -> str:
    """Say how many more questions would settle what a comparison leaves open."""
    groups = questions_needed(paired, settings.min_gain, settings.confidence)
    if groups is None:
        return "the gain lies on the line itself, and no number of questions can settle that"
    if groups > _MANY_QUESTIONS:
        return f"it would take more than {_MANY_QUESTIONS:,} questions about other facts"
    return f"add about {groups:,} question{'s' if groups > 1 else ''}, each about another fact"


def _held_out(losses: tuple[float, float] | None) -> _Finding:
    if losses is None:
        return _Finding("undecided", "Loss on held-out rows was not measured.")
    base, tuned = losses
    if tuned < base:
        return _Finding("ship", f"Loss on held-out rows fell from {base:.3f} to {tuned:.3f}.")
    return _Finding(
        "hold", f"Loss on held-out rows did not fall: {base:.3f} before, {tuned:.3f} after."
    )


def _forgetting(forgetting: Forgetting | None, settings: GateSettings) -> _Finding:
    if forgetting is None:
        return _Finding("undecided", "Forgetting was not measured.")
    change = (
        f"Accuracy on {forgetting.items:,} general questions went from "
        f"{100 * forgetting.base_accuracy:.1f} to {100 * forgetting.tuned_accuracy:.1f} %"
    )
    budget = f"the budget is a drop of {points(settings.max_forgetting)} points"
    if forgetting.drop <= settings.max_forgetting + _ROUNDING:
        return _Finding("ship", f"{change}; {budget}.")
    return _Finding("hold", f"{change}, a drop of {points(forgetting.drop)} points; {budget}.")


def _leak(leaked: int) -> _Finding:
    if leaked == 0:
        return _Finding("ship", "No golden question occurs in the training data.")
    are = "question is" if leaked == 1 else "questions are"
    return _Finding("hold", f"{leaked} golden {are} also in the training data.")


def _base(unchanged: bool) -> _Finding:
    if unchanged:
        return _Finding("ship", "The base is unchanged, byte for byte.")
    return _Finding("hold", "The base was changed; it must stay as it was.")


def points(share: float) -> str:
    """Return a share as points of a hundred, such as `42.5`; zero has no sign."""
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "\N{MINUS SIGN}")


def p_text(p_value: float) -> str:
    """Return a p-value as people write it: `p = 0.012`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
