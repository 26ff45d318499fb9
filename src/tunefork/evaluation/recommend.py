"""Which rung of the ladder to take: one recommendation in plain words, by stated rules.

1. Too few questions to tell anything apart: no recommendation, and how many it takes.
2. A rung is good enough where its gain over the base is at least `min_gain` and sure, and nothing
   else speaks against it, such as what a tuned model has forgotten.
3. Of those that are good enough, the one with the least effort that the best one does not surely
   beat by `min_gain` or more.
4. Where none is good enough: the base, if every gain is surely too small or what gained is ruled
   out; otherwise no recommendation, and how many questions are missing.

The reference is a yardstick and never recommended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunefork.evaluation.evidence import GateSettings
from tunefork.evaluation.gate import Decision, more_questions, points
from tunefork.evaluation.ladder import (
    BASE,
    LARGER,
    PROMPT,
    PROMPT_RETRIEVAL,
    REFERENCE,
    RETRIEVAL,
    TUNED,
    TUNED_RETRIEVAL,
    Against,
    Ladder,
    Rung,
)
from tunefork.evaluation.power import groups_for, holm, power
from tunefork.evaluation.statistics import PairedResult

_ROUNDING = 1e-9
_TAKE = {
    PROMPT: "A prompt is enough",
    RETRIEVAL: "Retrieval is enough",
    PROMPT_RETRIEVAL: "A prompt with retrieval is enough",
    TUNED: "Tune",
    TUNED_RETRIEVAL: "Retrieval for the facts, tuning for the voice",
    LARGER: "Take the larger base with a prompt",
}


@dataclass(frozen=True)
class Recommendation:
    """What to take and why; `rung` is None where the questions cannot tell."""

    rung: str | None
    reason: str


def fewest_groups(confidence: float) -> int:
    """Return how many facts it takes to be sure of anything, were all of them to agree."""
    return math.ceil(math.log2(2 / (1 - confidence)))


@dataclass(frozen=True)
class Foresight:
    """What the questions can show, said before any is asked.

    Attributes:
        questions: How many there are.
        facts: How many facts they ask about.
        gain: The gain that the user cares about.
        chance: Of finding it with these facts, were it true.
        needed: Facts with which it is found four times in five; None for more than a million.
    """

    questions: int
    facts: int
    gain: float
    chance: float
    needed: int | None

    def __str__(self) -> str:
        many = f"{self.needed:,} facts" if self.needed is not None else "over a million facts"
        return (
            f"{self.questions:,} questions about {_facts(self.facts)}: a gain of "
            f"{points(self.gain)} points would be found with a chance of {100 * self.chance:.0f} "
            f"%, and four times in five with about {many}; larger gains need fewer"
        )


def foresee(groups: Sequence[str], settings: GateSettings) -> Foresight:
    """Return what questions about these facts can show."""
    gain, n_groups = settings.min_gain, len(set(groups))
    return Foresight(
        len(groups),
        n_groups,
        gain,
        power(gain, n_groups, confidence=settings.confidence),
        groups_for(gain, confidence=settings.confidence),
    )


def standing(over_base: Against | None, settings: GateSettings) -> Decision | None:
    """Say of a rung that leaves the weights as they are whether its gain is enough and sure."""
    if over_base is None:
        return None
    if _is_enough(over_base, settings):
        return "ship"
    return "hold" if over_base.paired.high < settings.min_gain else "undecided"


def recommend(
    ladder: Ladder, settings: GateSettings, ruled_out: Mapping[str, str] | None = None
) -> Recommendation:
    """Return which rung to take.

    Args:
        ladder: What was measured.
        settings: What the user asks for.
        ruled_out: Rungs that must not ship whatever they score: the reason as a sentence.
    """
    ruled_out = ruled_out or {}
    n_groups = len(set(ladder.groups))
    fewest = fewest_groups(ladder.confidence)
    if n_groups < fewest:
        asked = f"{len(ladder.groups)} question{'s' if len(ladder.groups) != 1 else ''}"
        return Recommendation(
            None,
            f"Too few questions to recommend anything: {asked} about {_facts(n_groups)}, and "
            f"under {fewest} facts no difference can be told from chance.",
        )
    rivals = [
        rung for rung in ladder.rungs if rung.over_base is not None and rung.name != REFERENCE
    ]
    better = [rung for rung in rivals if rung.over_base and _is_enough(rung.over_base, settings)]
    good = [rung for rung in better if rung.name not in ruled_out]
    if good:
        found = _best_of(good, ladder, settings)
        notes = _ruled_out(better, good, ruled_out)
        return Recommendation(found.rung, " ".join([found.reason, *notes]))
    if better:
        return _none_allowed(better, ruled_out)
    return _none_better(rivals, settings, ruled_out)


def _best_of(good: Sequence[Rung], ladder: Ladder, settings: GateSettings) -> Recommendation:
    best = max(good, key=lambda rung: rung.score.mean)  # the first of equals
    before = list(good[: good.index(best)])
    losses = {rung.name: ladder.compare(best.name, rung.name) for rung in before}
    corrected = holm({name: each.p_value for name, each in losses.items()})
    level = 1 - settings.confidence
    beaten = {
        name
        for name, loss in losses.items()
        if loss.gain >= settings.min_gain - _ROUNDING and loss.low > 0 and corrected[name] <= level
    }
    chosen = next(rung for rung in (*before, best) if rung.name not in beaten)
    sentences = [f"{_TAKE[chosen.name]}: {_gain(chosen)}."]
    if chosen is not best:
        sentences.append(_close(best, losses[chosen.name], settings))
    sentences += _left_behind(chosen, ladder)
    return Recommendation(chosen.name, " ".join(sentences))


def _gain(rung: Rung) -> str:
    assert rung.over_base is not None, "it was compared with the base"
    paired = rung.over_base.paired
    return (
        f"it scores {points(rung.score.mean)} %, {points(paired.gain)} points more than the base "
        f"(between {points(paired.low)} and {points(paired.high)}) on {paired.questions} questions "
        f"about {_facts(paired.groups)}"
    )


def _close(best: Rung, loss: PairedResult, settings: GateSettings) -> str:
    """Say why the best is not taken."""
    said = f"`{best.name}` scores {points(loss.gain)} points more"
    if loss.gain < settings.min_gain - _ROUNDING:
        return f"{said}, less than the {points(settings.min_gain)} that you ask for."
    more = more_questions(loss, settings)
    return f"{said}, which may be chance: it could be up to {points(loss.high)}; {more}."


def _left_behind(chosen: Rung, ladder: Ladder) -> list[str]:
    """Say how much the best of the rungs with less effort lacks; the base was named already."""
    against = chosen.over_cheaper
    if against is None or against.other == BASE:
        return []
    other = ladder.find(against.other)
    assert other is not None, "it was measured"
    paired = against.paired
    return [
        f"The best way with less effort, `{other.name}`, scores {points(other.score.mean)} %: "
        f"{points(abs(paired.gain))} points {'less' if paired.gain >= 0 else 'more'} "
        f"(between {points(paired.low)} and {points(paired.high)})."
    ]


def _ruled_out(
    better: Sequence[Rung], good: Sequence[Rung], ruled_out: Mapping[str, str]
) -> list[str]:
    """Name what scores more than all that is good enough, and may not ship."""
    top = max(rung.score.mean for rung in good)
    return [
        f"`{rung.name}` scores {points(rung.score.mean)} %, but {_as_clause(ruled_out[rung.name])}"
        for rung in better
        if rung.name in ruled_out and rung.score.mean > top
    ]


def _none_allowed(better: Sequence[Rung], ruled_out: Mapping[str, str]) -> Recommendation:
    best = max(better, key=lambda rung: rung.score.mean)
    return Recommendation(
        BASE,
        f"Do not ship; keep the base. `{best.name}`: {_gain(best)}. But "
        f"{_as_clause(ruled_out[best.name])} Nothing else is good enough.",
    )


def _none_better(
    rivals: Sequence[Rung], settings: GateSettings, ruled_out: Mapping[str, str]
) -> Recommendation:
    need = f"you ask for {points(settings.min_gain)}"
    if not rivals:
        return Recommendation(None, "Only the base answered, so there is nothing to compare.")
    # What must not ship is not open, however little is known of its gain.
    still_open = [
        rung for rung in rivals if rung.name not in ruled_out and _is_open(rung, settings)
    ]
    best = max(still_open or rivals, key=lambda rung: rung.score.mean)
    if not still_open:
        but = f" {ruled_out[best.name]}" if best.name in ruled_out else ""
        return Recommendation(
            BASE,
            f"Do not ship; keep the base. The best of the others, `{best.name}`: {_gain(best)}; "
            f"{need}.{but}",
        )
    assert best.over_base is not None, "it was compared with the base"
    more = more_questions(best.over_base.paired, settings)
    barred = "".join(
        f" `{rung.name}` must not ship: {_as_clause(ruled_out[rung.name])}"
        for rung in rivals
        if rung.name in ruled_out
    )
    return Recommendation(
        None,
        f"Undecided: nothing is surely better than the base. The best that is open, "
        f"`{best.name}`: {_gain(best)}; {need}; {more}.{barred}",
    )


def _is_open(rung: Rung, settings: GateSettings) -> bool:
    """Say whether a rung may still turn out to gain enough."""
    return rung.over_base is None or rung.over_base.paired.high >= settings.min_gain


def _is_enough(against: Against, settings: GateSettings) -> bool:
    paired = against.paired
    return (
        paired.gain >= settings.min_gain - _ROUNDING
        and paired.low > 0
        and against.p_value <= 1 - settings.confidence
    )


def _facts(count: int) -> str:
    return f"{count} fact{'s' if count != 1 else ''}"


def _as_clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
