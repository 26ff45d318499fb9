"""What tells that a policy games its rewards: each sign warns first, and then ends the run.

A sign that holds for 4 rollouts in a row warns, for 12 in a row it ends the run. What is usual is
the mean of the first 4 rollouts.

cut off      9 of 10 answers run into their longest, and less than half did at first
empty        answers are less than 2 tokens long on average, and were 6 or more at first
repetition   more than half of all runs of 3 tokens occurred before in their answer, and twice as
             many as at first
divergence   the policy is further from the base than is allowed, in nats per token
alike        in no group do answers earn differently, so nothing is learned
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunefork.core.events import Sink, Warned
from tunefork.inference import Drawn

_FIRST = 4  # rollouts
_WARNS, _ENDS = 4, 12  # rollouts in a row
_SIGNS = ("cut off", "empty", "repetition", "divergence", "alike")
_RUN = 3  # tokens


@dataclass(frozen=True)
class Signals:
    """What is seen of the answers of one rollout."""

    length: float  # tokens of an answer, on average
    cut_off: float  # share of answers that ran into their longest
    repetition: float  # share of runs of tokens that occurred before in their answer
    alike: float  # share of groups whose answers all earned the same
    reward: float  # on average
    divergence: float = 0.0  # from the base, in nats per token


def repetition(answers: Sequence[Drawn]) -> float:
    """Return the share of runs of 3 tokens that occurred before in their answer."""
    n_all = n_new = 0
    for answer in answers:
        runs = [answer.ids[at : at + _RUN] for at in range(len(answer.ids) - _RUN + 1)]
        n_all += len(runs)
        n_new += len(set(runs))
    return 1 - n_new / n_all if n_all else 0.0


class Watch:
    """Looks at each rollout in turn; what it has seen is part of a checkpoint."""

    def __init__(self, most_divergence: float | None, sink: Sink) -> None:
        """Begin.

        Args:
            most_divergence: Nats per token that the policy may be from the base; None for any.
            sink: Told of a sign.
        """
        self._most = most_divergence
        self._sink = sink
        self._n_seen = 0
        self._first = np.zeros(4)  # sums over the first rollouts: of `_usual`
        self._in_a_row = np.zeros(len(_SIGNS), np.int64)
        self.reason: str | None = None  # why the run should end

    def look(self, seen: Signals) -> None:
        """Look at one more rollout; warn, or set `reason`."""
        if self._n_seen < _FIRST:
            self._first += _usual(seen)
        self._n_seen += 1
        signs = self._signs(seen)
        self._in_a_row = np.where(signs, self._in_a_row + 1, 0)
        for sign, count in zip(_SIGNS, self._in_a_row.tolist(), strict=True):
            if count == _WARNS:
                self._sink(Warned(f"{self._what(sign, seen)}; the run ends if that goes on"))
            if count == _ENDS:
                self.reason = f"for {_ENDS} rollouts {self._what(sign, seen)}"

    def state(self) -> list[float]:
        """Return all that it knows."""
        return [float(self._n_seen), *self._first.tolist(), *self._in_a_row.tolist()]

    def load_state(self, state: Sequence[float]) -> None:
        """Take back what `state` returned."""
        self._n_seen = int(state[0])
        self._first = np.array(state[1:5])
        self._in_a_row = np.array(state[5:], np.int64)

    def _signs(self, seen: Signals) -> list[bool]:
        length, cut_off, repeated, _ = self._first / min(max(self._n_seen, 1), _FIRST)
        return [
            seen.cut_off >= 0.9 and cut_off < 0.5,
            seen.length < 2 and length >= 6,
            seen.repetition > max(0.5, 2 * repeated),
            self._most is not None and seen.divergence > self._most,
            seen.alike == 1,
        ]

    def _what(self, sign: str, seen: Signals) -> str:
        if sign == "alike":
            first = self._first[3] / min(self._n_seen, _FIRST)
            return (
                f"all answers to each prompt have earned the same ({seen.reward:.3g} on average; "
                f"{first:.3g} at first), so nothing is learned"
            )
        return {
            "cut off": f"{seen.cut_off:.0%} of the answers have run into their longest "
            "(`max_tokens`): long ones seem to earn more",
            "empty": f"answers have been {seen.length:.1f} tokens long: empty ones seem to earn "
            "enough",
            "repetition": f"{seen.repetition:.0%} of the answers' words have been repetition",
            "divergence": f"the model has been {seen.divergence:.2f} nats per token from its "
            f"base, where `max_divergence` allows {self._most}",
        }[sign]


def _usual(seen: Signals) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([seen.length, seen.cut_off, seen.repetition, seen.reward])
