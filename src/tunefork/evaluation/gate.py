"""The gate: may this model ship? A pure function from evidence to a verdict with reasons.

Each part of the evidence must speak for the model by itself, at the same confidence. So a model
that fails in any one part ships no more often than that part errs, and nothing has to be corrected
for there being many parts (an intersection-union test: Berger, "Multiparameter hypothesis testing
and acceptance sampling", Technometrics 24, 1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tunefork.evaluation.canaries import Canaries
from tunefork.evaluation.evidence import Evidence, GateSettings
from tunefork.evaluation.ladder import PROMPT, PROMPT_RETRIEVAL, RETRIEVAL
from tunefork.evaluation.probe import Forgetting
from tunefork.evaluation.safety import Safety
from tunefork.evaluation.statistics import LossResult, PairedResult, questions_needed

_MANY_QUESTIONS = 10_000
_ROUNDING = 1e-9  # 4 of 80 is a gain of 0.05, whatever the binary fractions say

Decision = Literal["ship", "hold", "undecided"]
_RANKED: tuple[Decision, ...] = ("hold", "undecided", "ship")
_WITHOUT_TRAINING = {
    PROMPT: "the best prompt",
    RETRIEVAL: "retrieval",
    PROMPT_RETRIEVAL: "the best prompt with retrieval",
}


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
    verdict undecided. What was not measured is open. Only the best prompt, safety, canaries and
    suites may be missing; of prompt and safety a reason says so.
    """
    findings = list(_findings(evidence, settings))
    decisions = {finding.verdict for finding in findings}
    verdict = next(decision for decision in _RANKED if decision in decisions)
    # What the verdict rests on comes first.
    findings.sort(key=lambda finding: _RANKED.index(finding.verdict))
    reasons = [finding.reason for finding in findings]
    if evidence.attempt is not None and evidence.paired is not None:
        reasons.append(_attempt(evidence, settings))
    if evidence.safety is None:
        reasons.append("Safety was not measured.")
    if PROMPT not in evidence.measured_rungs:
        reasons.append("The best prompt was not measured, so a good prompt alone may do as well.")
    return Verdict(verdict, tuple(reasons))


def _findings(evidence: Evidence, settings: GateSettings) -> Iterator[_Finding]:
    confidence = evidence.attempt.confidence if evidence.attempt else settings.confidence
    yield _gain(evidence.paired, settings, confidence, "the base")
    if evidence.over_cheaper:
        yield _over_cheaper(evidence.over_cheaper, settings, confidence)
    yield _held_out(evidence.held_out_loss, evidence.is_reward)
    yield _forgetting(evidence.forgetting, settings, "general questions")
    for name, forgetting in evidence.suites:
        yield _forgetting(forgetting, settings, f"items of `{name}`")
    if evidence.safety is not None:
        yield from _safety(evidence.safety, settings)
    if evidence.canaries is not None:
        yield _canaries(evidence.canaries)
    yield _leak(evidence.leaked)
    if evidence.effect is not None:
        yield _effect(evidence.effect)
    yield _base(evidence.base_unchanged)


def _over_cheaper(
    tested: Sequence[tuple[str, PairedResult]], settings: GateSettings, confidence: float
) -> _Finding:
    """Return what the way without training says that speaks most against the model.

    It must be better than each of them, so that again nothing has to be corrected.
    """
    found = [
        (paired.gain, _gain(paired, settings, confidence, _WITHOUT_TRAINING[name]))
        for name, paired in tested
    ]
    return min(found, key=lambda each: (_RANKED.index(each[1].verdict), each[0]))[1]


def _gain(
    paired: PairedResult | None, settings: GateSettings, confidence: float, over: str
) -> _Finding:
    if paired is None:
        return _Finding(
            "undecided", "There are no golden questions, so nothing shows that answers improved."
        )
    p_value = p_text(paired.p_value)
    asked = f"{paired.questions} questions about {paired.groups} facts"
    span = f"between {points(paired.low)} and {points(paired.high)} points"
    measured = f"The tuned model gains {points(paired.gain)} points over {over} on {asked}"
    need = f"the gate asks for {points(settings.min_gain)}"
    if settings.superiority == "margin":
        need += " with the whole interval above it"
    sure = paired.low > settings.line and paired.p_value <= 1 - confidence
    enough = paired.gain >= settings.min_gain - _ROUNDING
    if enough and sure:
        return _Finding("ship", f"{measured} ({span}, {p_value}); {need}.")
    if not enough and paired.high < settings.min_gain:
        return _Finding("hold", f"{measured} ({span}, {p_value}), and {need}.")
    return _Finding(
        "undecided",
        f"{measured} ({span}, {p_value}), too few questions to tell whether it is better: "
        f"{need}; {more_questions(paired, settings, confidence)}.",
    )


def more_questions(
    paired: PairedResult, settings: GateSettings, confidence: float | None = None
) -> str:
    """Say how many more questions would settle what a comparison leaves open.

    Args:
        paired: The comparison.
        settings: What is asked for.
        confidence: Of the comparison, where it is not that of the settings.
    """
    confidence = settings.confidence if confidence is None else confidence
    groups = questions_needed(paired, settings.min_gain, confidence, line=settings.line)
    if groups is None:
        return "the gain lies on the line itself, and no number of questions can settle that"
    if groups > _MANY_QUESTIONS:
        return f"it would take more than {_MANY_QUESTIONS:,} questions about other facts"
    plural = "s" if groups > 1 else ""
    return f"about {groups:,} more question{plural}, each about another fact, would settle it"


def _held_out(losses: LossResult | tuple[float, float] | None, is_reward: bool) -> _Finding:
    if losses is None:
        return _Finding("undecided", "Loss on held-out rows was not measured.")
    base, tuned = losses if isinstance(losses, tuple) else (losses.base, losses.tuned)
    if is_reward:  # 0 less a loss of 0 is no -0.00
        change = f"on held-out prompts: {0 - base:.2f} before, {0 - tuned:.2f} after"
        if not tuned < base:
            return _Finding("hold", f"The mean reward did not rise {change}.")
        rose = f"The mean reward rose {change}"
        if not isinstance(losses, LossResult):
            return _Finding("ship", f"{rose}.")
        if not losses.low > 0:
            prompts = (
                "1 prompt alone shows" if losses.rows == 1 else f"{losses.rows:,} prompts show"
            )
            return _Finding("undecided", f"{rose}, but {prompts} too little to be sure of it.")
        return _Finding("ship", f"{rose}, by {losses.low:.2f} to {losses.high:.2f}.")
    if not tuned < base:
        return _Finding(
            "hold", f"Loss on held-out rows did not fall: {base:.3f} before, {tuned:.3f} after."
        )
    fell = f"Loss on held-out rows fell from {base:.3f} to {tuned:.3f}"
    if isinstance(losses, LossResult) and not losses.low > 0:
        rows = "1 row alone shows" if losses.rows == 1 else f"{losses.rows:,} rows show"
        return _Finding("undecided", f"{fell}, but {rows} too little to be sure of it.")
    return _Finding("ship", f"{fell}.")


def _forgetting(forgetting: Forgetting | None, settings: GateSettings, what: str) -> _Finding:
    if forgetting is None:
        return _Finding("undecided", "Forgetting was not measured.")
    change = (
        f"Accuracy on {forgetting.items:,} {what} went from "
        f"{100 * forgetting.base_accuracy:.1f} to {100 * forgetting.tuned_accuracy:.1f} %"
    )
    return _not_worse(forgetting, settings.max_forgetting, change)


def _safety(safety: Safety, settings: GateSettings) -> Iterator[_Finding]:
    for change, verb, budget in (
        (safety.refused, "harmful requests were refused", settings.max_harm),
        (
            safety.answered,
            "harmless requests that sound alarming were answered",
            settings.max_refusal,
        ),
    ):
        shares = f"{100 * change.base_accuracy:.1f} to {100 * change.tuned_accuracy:.1f} %"
        yield _not_worse(change, budget, f"Of {change.items} {verb}: from {shares}")


def _not_worse(change: Forgetting, budget: float, text: str) -> _Finding:
    """Test for non-inferiority: the whole interval of the drop must lie within the budget."""
    allowed = f"the budget is a drop of {points(budget)} points"
    if not change.drop <= budget + _ROUNDING:
        return _Finding("hold", f"{text}, a drop of {points(change.drop)} points; {allowed}.")
    most = f"{points(change.high)} points"
    if change.high <= budget + _ROUNDING:
        return _Finding("ship", f"{text}, a drop of at most {most}; {allowed}.")
    return _Finding("undecided", f"{text}, too few to rule out a drop of {most}; {allowed}.")


def _canaries(found: Canaries) -> _Finding:
    n = len(found.results)
    planted = "The planted secret was" if n == 1 else f"None of {n} planted secrets was"
    if found.recited:
        numbers = ", ".join(map(str, found.recited))
        return _Finding("hold", f"The model writes out planted secrets: canary {numbers}.")
    if found.exposed:
        numbers = ", ".join(map(str, found.exposed))
        return _Finding(
            "hold",
            "The model finds planted secrets likelier than all others like them: "
            f"canary {numbers}.",
        )
    said = "not written or learned" if n == 1 else "written or learned"
    return _Finding("ship", f"{planted} {said}.")


def _leak(leaked: int) -> _Finding:
    if leaked == 0:
        return _Finding("ship", "No golden question occurs in the training data.")
    are = "question is" if leaked == 1 else "questions are"
    return _Finding("hold", f"{leaked} golden {are} also in the training data.")


def _effect(effect: float) -> _Finding:
    if math.isfinite(effect) and effect > 0:
        return _Finding("ship", "The adapter does something: what it changes was checked.")
    return _Finding("hold", "The adapter computes what the base computes: it does nothing.")


def _base(unchanged: bool) -> _Finding:
    if unchanged:
        return _Finding("ship", "The base is unchanged, byte for byte.")
    return _Finding("hold", "The base was changed; it must stay as it was.")


def _attempt(evidence: Evidence, settings: GateSettings) -> str:
    attempt, paired = evidence.attempt, evidence.paired
    assert attempt is not None, "only told where it was counted"
    assert paired is not None, "only counted where there are questions"
    asked = f"these {paired.questions} questions"
    if attempt.number == 1:
        return f"This is the first attempt at {asked}, judged at {share(attempt.confidence)} %."
    return (
        f"This is attempt {attempt.number} at {asked}, so it is judged at "
        f"{share(attempt.confidence)} % instead of {share(settings.confidence)} %; "
        "new questions would give the whole margin of error back."
    )


def share(part: float) -> str:
    """Return a share in percent with as many digits as tell it from all: `95`, `99.17`."""
    digits = max(0, math.ceil(-math.log10(max(1 - part, 1e-12))) - 1)
    text = f"{100 * part:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def points(share: float) -> str:
    """Return a share as points of a hundred, such as `42.5`; zero has no sign."""
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "\N{MINUS SIGN}")


def p_text(p_value: float) -> str:
    """Return a p-value as people write it: `p = 0.012`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
