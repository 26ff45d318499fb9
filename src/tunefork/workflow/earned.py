"""Held-out prompts: what the answers of base and tuned model earn, and how far they are apart.

Both give their likeliest answers, which are judged as in training. How far the tuned model is from
its base is told by one answer to each prompt that it draws, as it does while it learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunefork.core.events import Progress, Sink
from tunefork.data import Items
from tunefork.evaluation import LossResult, Sheet, paired_test
from tunefork.evaluation.gate import p_text
from tunefork.objectives import Asked, Speaker
from tunefork.objectives.answers import Answers, answer_rows
from tunefork.objectives.rollouts import log_probs_along
from tunefork.objectives.watch import repetition
from tunefork.workflow.judging import opened_judges
from tunefork.workflow.opened import OpenedModel
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.rollouts import asked_of, speaker_of
from tunefork.workflow.spec import Project

_SHOWN = 10  # prompts
_SHOWN_LETTERS = 400  # of an answer


@dataclass(frozen=True)
class Earner:
    """One model's answers, on average."""

    reward: float
    passed: float  # share of answers
    tokens: float  # of an answer
    repetition: float  # share of runs of 3 tokens that occurred before in their answer


@dataclass(frozen=True)
class Shown:
    """A prompt with both answers and rewards."""

    place: str  # in its file
    prompt: str
    base: tuple[str, float]
    tuned: tuple[str, float]


@dataclass(frozen=True)
class Earned:
    """Both models on the same prompts."""

    base: Earner
    tuned: Earner
    losses: LossResult  # minus the rewards
    kl_token: float  # KL(tuned || base) in nats per token that the tuned model draws
    kl_answer: float  # the same per answer
    shown: tuple[Shown, ...]  # spread evenly over the prompts

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it."""
        found = self.losses
        return {
            "prompts": found.rows,
            "base": vars(self.base),
            "tuned": vars(self.tuned),
            "gain": found.drop,
            "low": found.low,
            "high": found.high,
            "p_value": found.p_value,
            "kl": {"token": self.kl_token, "answer": self.kl_answer},
        }

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Return what a report says of it: (what, how much)."""
        base, tuned, found = self.base, self.tuned, self.losses
        span = f"between {found.low:.2f} and {found.high:.2f}, {p_text(found.p_value)}"
        return (
            (
                f"Reward on {found.rows:,} held-out prompts",
                f"{base.reward:.2f} before, {tuned.reward:.2f} after ({found.drop:+.2f}, {span})",
            ),
            ("Answers that pass", f"{base.passed:.1%} before, {tuned.passed:.1%} after"),
            ("Tokens of an answer", f"{base.tokens:.1f} before, {tuned.tokens:.1f} after"),
            (
                "Repetition in answers",
                f"{base.repetition:.1%} of runs of 3 tokens before, {tuned.repetition:.1%} after",
            ),
            (
                "Distance from the base",
                f"KL {self.kl_token:.3f} nats per token, {self.kl_answer:.2f} per answer",
            ),
        )

    def sheets(self) -> tuple[Sheet, ...]:
        """Return what a report shows of it: answers before and after."""
        rows = tuple(
            (
                each.place,
                each.prompt,
                each.base[0],
                f"{each.base[1]:.2f}",
                each.tuned[0],
                f"{each.tuned[1]:.2f}",
            )
            for each in self.shown
        )
        header = ("row", "prompt", "before", "reward", "after", "reward")
        note = "Held-out prompts, spread evenly, with the likeliest answers."
        return (Sheet("What answers earn", note, header, rows),)


def earned(
    opened: OpenedModel, prepared: Prepared, project: Project, confidence: float, sink: Sink
) -> Earned | None:
    """Return what base and tuned model earn; None where it did not learn from rewards.

    Raises:
        RunError: Not one answer of a model could be judged.
    """
    held_out, prompts = prepared.data.validation, prepared.prompts
    if prompts is None or held_out is None:
        return None
    with opened_judges(project) as judges:
        asked = asked_of(held_out, prompts.held_out, judges, prepared.data.name_held_out)
        tuned = speaker_of(project, prepared, opened.chat.model, 1)
        tuned_answers = tuned.greedy(asked, _progress(sink, "tuned", asked))
        rows = _drawn(tuned, asked)
        own = log_probs_along(tuned.model, rows)
        with opened.base_chat() as chat:
            base = speaker_of(project, prepared, chat.model, 1)
            base_answers = base.greedy(asked, _progress(sink, "base", asked))
            apart = own - log_probs_along(chat.model, rows)
    found = _paired(base_answers, tuned_answers)
    if found is None:
        return None
    return Earned(
        _earner(found[0]),
        _earner(found[1]),
        _compared(*found, confidence),
        float(apart[rows.rows.weights > 0].mean(dtype=np.float64)),
        float(apart.sum(dtype=np.float64)) / len(rows),
        _shown(asked, *found),
    )


def _drawn(speaker: Speaker, asked: Asked) -> Items:
    numbers = range(len(asked.rows))
    return answer_rows(numbers, speaker.draw(asked, numbers, 0), asked.rows)


def _paired(base: Answers, tuned: Answers) -> tuple[Answers, Answers] | None:
    """Return the answers to prompts at which both could be judged; None where there is none."""
    both, at_base, at_tuned = np.intersect1d(base.prompts, tuned.prompts, return_indices=True)
    return (base.select(at_base), tuned.select(at_tuned)) if len(both) else None


def _compared(base: Answers, tuned: Answers, confidence: float) -> LossResult:
    """Compare minus the rewards, prompt by prompt; no reward counts as beyond those that were."""
    both = np.stack([base.rewards, tuned.rewards]).astype(np.float64)
    least, span = float(both.min()), float(np.ptp(both)) or 1.0
    shares = ((both - least) / span).tolist()
    found = paired_test(shares[0], shares[1], range(len(base)), confidence)
    return LossResult(
        base=-float(both[0].mean()),
        tuned=-float(both[1].mean()),
        drop=span * found.gain,
        low=span * found.low,
        high=span * found.high,
        p_value=found.p_value,
        rows=len(base),
    )


def _earner(answers: Answers) -> Earner:
    return Earner(
        float(answers.rewards.mean(dtype=np.float64)),
        float(answers.passed.mean()),
        float(np.mean([len(answer.ids) for answer in answers.drawn])),
        repetition(answers.drawn),
    )


def _shown(asked: Asked, base: Answers, tuned: Answers) -> tuple[Shown, ...]:
    places = np.unique(np.linspace(0, len(base) - 1, _SHOWN).round().astype(int))
    return tuple(
        Shown(
            asked.name(int(base.prompts[at])),
            asked.text(int(base.prompts[at])),
            (base.texts[at][:_SHOWN_LETTERS], float(base.rewards[at])),
            (tuned.texts[at][:_SHOWN_LETTERS], float(tuned.rewards[at])),
        )
        for at in places.tolist()
    )


def _progress(sink: Sink, name: str, asked: Asked) -> Callable[[int], None]:
    total = len(asked.rows)
    return lambda done: sink(Progress(f"{name}: held-out prompts", done, total))
