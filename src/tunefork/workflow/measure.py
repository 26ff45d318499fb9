"""Measure a model: golden answers, held-out loss, general knowledge; and compare two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import Where
from tunefork.core.events import Progress, Sink
from tunefork.data import Example, Items, Message, TokenRows
from tunefork.evaluation import (
    Forgetting,
    GoldenQuestion,
    LossResult,
    PairedResult,
    ProbeItem,
    load_probe,
    mean_loss_test,
    measure_forgetting,
    paired_test,
    probe_accuracy,
)
from tunefork.graders import Grade, grade_many, require_graded
from tunefork.inference import Answer, ChatModel, Decoding, RowScore, score_rows
from tunefork.workflow.compare_answers import BATCH
from tunefork.workflow.compare_rungs import Step
from tunefork.workflow.opened import DECODING
from tunefork.workflow.preferences import Agreement, Preferred, agreement, look_at_pairs

_PROBE_FILE = Path(__file__).parents[1] / "evaluation" / "general" / "probe.jsonl"


@dataclass(frozen=True)
class Questions:
    """What every model is asked."""

    golden: tuple[GoldenQuestion, ...]
    held_out: TokenRows | None
    probe: tuple[ProbeItem, ...]
    pairs: Items | None = None  # held-out ones, where it learns from pairs


@dataclass(frozen=True)
class Measured:
    """What one model answered and scored, in the order of the questions."""

    answers: tuple[str, ...]
    grades: tuple[Grade, ...]
    losses: tuple[RowScore, ...]
    probe_right: tuple[bool, ...]
    preferred: Preferred | None

    @property
    def scores(self) -> list[float]:
        """The grade of each golden answer, from 0 to 1."""
        return [grade.score for grade in self.grades]


@dataclass(frozen=True)
class Compared:
    """Tuned against base on the same questions; None where there were none."""

    base: Measured
    tuned: Measured
    paired: PairedResult | None
    losses: LossResult | None
    forgetting: Forgetting | None
    agreement: Agreement | None


def general_probe(half: str) -> tuple[ProbeItem, ...]:
    """Return one half of the bundled probe: `select` to choose with, `sealed` for the verdict."""
    return tuple(item for item in load_probe(_PROBE_FILE) if item.half == half)


def measure(
    chat: ChatModel, questions: Questions, name: str, sink: Sink, step: Step | None
) -> Measured:
    """Ask one model everything but the golden questions, which its step on the ladder answered."""
    losses = (
        score_rows(
            chat.model,
            questions.held_out,
            on_rows=_progress(sink, f"{name}: held-out rows", len(questions.held_out)),
        )
        if questions.held_out is not None
        else []
    )
    pairs = questions.pairs
    return Measured(
        answers=step.climbed.answers if step is not None else (),
        grades=step.climbed.grades if step is not None else (),
        losses=tuple(losses),
        probe_right=tuple(answer_probe(chat, questions.probe, name, sink)),
        preferred=None if pairs is None else look_at_pairs(chat, pairs, name, sink),
    )


def ask(
    chat: ChatModel,
    golden: Sequence[GoldenQuestion],
    name: str,
    sink: Sink,
    decoding: Decoding = DECODING,
) -> tuple[list[Answer], list[Grade]]:
    """Let one model answer the golden questions, and grade what it says."""
    conversations = [
        [Message(turn["role"], turn["content"]) for turn in question.messages]
        for question in golden
    ]
    told = _progress(sink, f"{name}: golden questions", len(golden))
    answers: list[Answer] = []
    # As the ladder asks, so that the answers are the same bits.
    for begin in range(0, len(conversations), BATCH):
        answers += chat.answer(conversations[begin : begin + BATCH], decoding)
        told(len(answers))
    graders = [question.grader for question in golden]
    grades = grade_many(graders, [answer.text for answer in answers])
    require_graded(grades, golden[0].where if golden else None)
    return answers, grades


def compare(base: Measured, tuned: Measured, questions: Questions, confidence: float) -> Compared:
    """Test the tuned model against the base, question by question."""
    groups = [question.group for question in questions.golden]
    paired = (
        paired_test(base.scores, tuned.scores, groups, confidence) if questions.golden else None
    )
    losses = (
        mean_loss_test(
            [-score.mean for score in base.losses],
            [-score.mean for score in tuned.losses],
            [score.weight for score in base.losses],
            confidence,
        )
        if questions.held_out is not None
        else None
    )
    forgetting = (
        measure_forgetting(
            questions.probe, base.probe_right, tuned.probe_right, confidence=confidence
        )
        if questions.probe
        else None
    )
    agreed = (
        agreement(base.preferred, tuned.preferred, confidence)
        if base.preferred and tuned.preferred
        else None
    )
    return Compared(base, tuned, paired, losses, forgetting, agreed)


def held_out_summary(losses: LossResult) -> dict[str, Any]:
    """Return held-out loss and perplexity of both, as plain data."""
    return {
        "base_loss": losses.base,
        "tuned_loss": losses.tuned,
        "drop": losses.drop,
        # One row alone has no interval.
        "low": losses.low if math.isfinite(losses.low) else None,
        "high": losses.high if math.isfinite(losses.high) else None,
        "p_value": losses.p_value,
        "base_perplexity": math.exp(losses.base),
        "tuned_perplexity": math.exp(losses.tuned),
        "rows": losses.rows,
    }


def answer_probe(chat: ChatModel, items: Sequence[ProbeItem], name: str, sink: Sink) -> list[bool]:
    """Score each choice as the answer to its question; the likeliest per token is the pick."""
    rows = [
        Example(
            (Message("user", item.question), Message("assistant", choice)), Where("general probe")
        )
        for item in items
        for choice in item.choices
    ]
    if not rows:
        return []
    scores = chat.score(rows, on_rows=_progress(sink, f"{name}: general knowledge", len(rows)))
    means = iter(score.mean for score in scores)
    picked = [[next(means) for _ in item.choices] for item in items]
    return probe_accuracy(items, picked)


def _progress(sink: Sink, what: str, total: int) -> Callable[[int], None]:
    return lambda done: sink(Progress(what, done, total))
