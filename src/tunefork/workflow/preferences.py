"""Held-out pairs: how often each model finds the better answer likelier, and how far they differ.

An answer's likelihood is its mean log-probability per token, so that short ones have no advantage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunefork.core.events import Progress, Sink
from tunefork.data import Items
from tunefork.evaluation import Interval, PairedResult, interval, paired_test
from tunefork.inference import ChatModel, mean_divergence, next_token_log_probs, score_rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preferred:
    """What one model makes of the pairs."""

    is_right: tuple[bool, ...]  # of each pair: whether the better answer is likelier
    next_tokens: torch.Tensor  # at places of the better answers, see `next_token_log_probs`


@dataclass(frozen=True)
class Agreement:
    """Both models on the same pairs."""

    base: Interval
    tuned: Interval
    paired: PairedResult
    divergence: float  # KL(tuned || base) on the better answers, in nats per token

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it."""
        models = {"base": self.base, "tuned": self.tuned}
        return {
            **{
                name: {"score": each.mean, "low": each.low, "high": each.high}
                for name, each in models.items()
            },
            "gain": self.paired.gain,
            "p_value": self.paired.p_value,
            "pairs": self.paired.questions,
            "kl": self.divergence,
        }


def look_at_pairs(chat: ChatModel, pairs: Items, name: str, sink: Sink) -> Preferred:
    """Score both answers of each pair with one model."""

    def tell(done: int) -> None:
        sink(Progress(f"{name}: held-out pairs", done, len(pairs.rows)))

    means = [score.mean for score in score_rows(chat.model, pairs.rows, on_rows=tell)]
    better = pairs.rows.select(pairs.starts[:-1])
    return Preferred(
        tuple(one > other for one, other in zip(means[::2], means[1::2], strict=True)),
        next_token_log_probs(chat.model, better),
    )


def agreement(base: Preferred, tuned: Preferred, confidence: float) -> Agreement:
    """Compare the two on the same pairs."""
    scores = [[float(right) for right in each.is_right] for each in (base, tuned)]
    groups = range(len(base.is_right))
    return Agreement(
        interval(scores[0], groups, confidence),
        interval(scores[1], groups, confidence),
        paired_test(scores[0], scores[1], groups, confidence),
        mean_divergence(tuned.next_tokens, base.next_tokens),
    )


def preference_facts(found: Agreement) -> tuple[tuple[str, str], ...]:
    """Return what a report says of it: (what, how much)."""
    before, after = (f"{100 * each.mean:.1f} %" for each in (found.base, found.tuned))
    return (
        (
            "Better answer likelier",
            f"{before} of {found.paired.questions:,} held-out pairs before, {after} after",
        ),
        ("Distance from the base", f"KL {found.divergence:.3f} nats per token"),
    )
