"""What `grpo` and `ppo` learn from: answers that the model in training draws, and their rewards.

`Rollouts` draws, has the answers judged, and watches; `Groups` and `Expectations` make of answers
the rows that the objectives' losses take. All of it follows from weights, seed and the number of
the rollout; what else decides is part of a checkpoint (`state`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from tunefork.core.events import Progress, Sink, Warned
from tunefork.data import Items
from tunefork.data.items import Column
from tunefork.inference import Drawn
from tunefork.models import Batch, Head
from tunefork.models.log_probs import log_probs_and_hidden, log_probs_on
from tunefork.objectives.answers import Answers, Asked, Speaker, along_answers
from tunefork.objectives.grpo import ADVANTAGE, BASE, OLD
from tunefork.objectives.policy_losses import (
    general_advantages,
    group_advantages,
    next_coefficient,
)
from tunefork.objectives.ppo import RETURN, VALUE
from tunefork.objectives.watch import Signals, Watch, repetition

Reference = Callable[[], AbstractContextManager[Any]]  # gives the base to compute with
State = dict[str, torch.Tensor]
_REDRAWS = 3  # of groups that teach nothing, at most


@dataclass(frozen=True)
class Rollout:
    """Answers to learn from."""

    items: Items
    prompts: tuple[int, ...]  # the number of the prompt of each item
    metrics: dict[str, float] = field(default_factory=dict)
    samples: tuple[dict[str, Any], ...] = ()  # to look at; see `events.Sampled`


class Finish(Protocol):
    """Makes rows of answers."""

    def finish(self, answers: Answers, asked: Asked) -> tuple[Items, Column, dict[str, float]]:
        """Return the rows, the advantage of each answer (its mean), and what is told."""
        ...

    def state(self) -> State:
        """Return what it has learned from earlier rollouts."""
        ...

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        ...


class Groups:
    """Compares the answers to one prompt with each other: `grpo`."""

    def __init__(
        self,
        model: Any,
        reference: Reference | None,
        *,
        divides: bool,
        keeps_old: bool,
    ) -> None:
        """Prepare.

        Args:
            model: The model in training.
            reference: Gives the base; None where no divergence counts.
            divides: See `group_advantages`.
            keeps_old: Whether answers are gone over more than once.
        """
        self._model, self._reference = model, reference
        self._divides, self._keeps_old = divides, keeps_old

    def finish(self, answers: Answers, asked: Asked) -> tuple[Items, Column, dict[str, float]]:
        """Return the rows with their advantages, and with both log-probabilities as needed."""
        advantages = np.zeros(len(answers), np.float32)
        for group in answers.groups():
            rewards = torch.from_numpy(answers.rewards[group])
            if len(rewards) > 1:
                advantages[group] = group_advantages(rewards, divides=self._divides).numpy()
        items = answers.rows(asked).with_column(ADVANTAGE, advantages)
        if self._keeps_old:
            items = items.with_along(OLD, log_probs_along(self._model, items))
        if self._reference is not None:
            with self._reference() as base:
                items = items.with_along(BASE, log_probs_along(base, items))
        return items, advantages, {}

    def state(self) -> State:
        """Return nothing: each rollout stands for itself."""
        return {}

    def load_state(self, state: State) -> None:
        """Take back nothing."""


class Expectations:
    """Compares answers with what was expected of them, token by token: `ppo`."""

    def __init__(
        self,
        model: Any,
        reference: Reference,
        head: Head,
        *,
        coefficient: float,
        target: float | None,
        discount: float,
        trace: float,
    ) -> None:
        """Prepare.

        Args:
            model: The model in training.
            reference: Gives the base.
            head: What is expected before each token.
            coefficient: What a nat of divergence from the base costs at first.
            target: The divergence to hold, in nats per answer; None leaves the coefficient.
            discount: See `general_advantages`.
            trace: See `general_advantages`.
        """
        self._model, self._reference, self._head = model, reference, head
        self._coefficient, self._target = coefficient, target
        self._discount, self._trace = discount, trace

    def finish(self, answers: Answers, asked: Asked) -> tuple[Items, Column, dict[str, float]]:
        """Return the rows with advantages, returns, and values and log-probabilities of now."""
        items = answers.rows(asked)
        with self._reference() as base:
            reference = log_probs_along(base, items)

        def look(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            log_probs, hidden = log_probs_and_hidden(self._model, batch)
            return log_probs, self._head.on(hidden).squeeze(1)

        old, values = along_answers(look, items, self._model.device)
        apart = old - reference  # 0 outside answers
        earned = -self._coefficient * apart
        advantages = np.zeros_like(old)
        ends = np.cumsum(items.rows.lengths)
        sizes = np.array([len(answer.ids) for answer in answers.drawn])
        earned[ends - 1] += answers.rewards
        for begin, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
            advantages[begin:end] = general_advantages(
                torch.from_numpy(earned[begin:end]),
                torch.from_numpy(values[begin:end]),
                discount=self._discount,
                trace=self._trace,
            ).numpy()
        is_answer = items.rows.weights > 0
        returns = advantages + values
        advantages = _whitened(advantages, is_answer)
        divergence = float(apart.sum()) / len(answers)
        metrics = {
            "kl": float(apart[is_answer].mean()),
            "kl_answer": divergence,
            "kl_cost": self._coefficient,
            "expected": float(values[is_answer].mean()),
        }
        if self._target is not None:
            self._coefficient = next_coefficient(self._coefficient, divergence, self._target)
        parts = {OLD: old, VALUE: values, ADVANTAGE: advantages, RETURN: returns}
        for name, each in parts.items():
            items = items.with_along(name, each)
        means = np.add.reduceat(advantages, ends - sizes)  # prompts follow, and are 0
        return items, (means / sizes).astype(np.float32), metrics

    def state(self) -> State:
        """Return the coefficient."""
        return {"coefficient": torch.tensor([self._coefficient], dtype=torch.float64)}

    def load_state(self, state: State) -> None:
        """Take the coefficient back."""
        self._coefficient = float(state["coefficient"][0])


class Rollouts:
    """Draws answers for the training loop, and measures the policy on held-out prompts."""

    def __init__(
        self,
        speaker: Speaker,
        training: Asked,
        held_out: Asked | None,
        finish: Finish,
        watch: Watch,
        sink: Sink,
        *,
        passes: int,
        redraws: bool,
    ) -> None:
        """Prepare.

        Args:
            speaker: The model in training.
            training: Prompts to learn from.
            held_out: Prompts to choose the best weights by.
            finish: Makes rows of answers.
            watch: Looks at each rollout.
            sink: Told what is worth knowing.
            passes: Optimizer steps on each rollout.
            redraws: Draw other prompts in the place of those whose answers all earn the same
                (dynamic sampling, Yu et al. 2025, arXiv 2503.14476).
        """
        self._speaker, self._finish, self._watch = speaker, finish, watch
        self._training, self._held_out = training, held_out
        self._sink, self._redraws = sink, redraws
        self._has_warned = False
        self._divergence = 0.0
        self.passes = passes

    @property
    def reason(self) -> str | None:
        """Why the run should end; None while it should not."""
        return self._watch.reason

    @property
    def device(self) -> torch.device:
        """Where the model in training is."""
        found: torch.device = self._speaker.model.device
        return found

    def produce(self, number: int, chosen: Sequence[int]) -> Rollout:
        """Return the rollout of this number, from some of the prompts to learn from.

        Raises:
            RunError: Not one answer could be judged.
        """
        answers = self._speaker.answer(self._training, chosen, number, 0)
        n_asked = len(chosen)
        if self._redraws:
            answers, n_asked = self._with_spread(answers, number, chosen)
        items, advantages, metrics = self._finish.finish(answers, self._training)
        self._tell_unjudged(answers)
        signals = _signals(answers, self._speaker.n_answers > 1, self._divergence)
        self._watch.look(signals)
        told = {
            "reward": signals.reward,
            "passed": float(answers.passed.mean()),
            "length": signals.length,
            "alike": signals.alike,
            **({"asked": n_asked / len(chosen)} if self._redraws else {}),
            **({"unjudged": float(answers.n_unjudged)} if answers.n_unjudged else {}),
        }
        return Rollout(
            items,
            tuple(answers.prompts.tolist()),
            {**told, **metrics},
            self._samples(answers, advantages),
        )

    def longest(self, n_tokens: int) -> Items:
        """Return answers that fill `n_tokens`, as long as any that may be drawn."""
        lengths, most = self._training.rows.lengths, self._speaker.max_tokens
        prompt, n_answers = int(np.argmax(lengths)), self._speaker.n_answers
        count = max(1, min(n_answers, n_tokens // most))
        ids = self._training.rows.row(prompt)[0]
        drawn = tuple(
            Drawn(tuple(np.resize(ids[at % len(ids) :], most).tolist()), "length")
            for at in range(count)
        )
        answers = Answers(
            np.full(count, prompt),
            drawn,
            ("",) * count,
            np.arange(count, dtype=np.float32),
            np.zeros(count, np.bool_),
        )
        before = self._finish.state()
        items, _, _ = self._finish.finish(answers, self._training)
        self._finish.load_state(before)
        return items

    def measure(self, step: int) -> tuple[float, dict[str, float]]:
        """Return minus the mean reward of the likeliest answers to the held-out prompts, and more.

        Raises:
            RunError: Not one answer could be judged.
        """
        assert self._held_out is not None, "only asked where there are any"
        total = len(self._held_out.rows)

        def tell(done: int) -> None:
            if step == 0:  # later it is a part of training, whose progress is told
                self._sink(Progress("answering the held-out prompts", done, total))

        answers = self._speaker.greedy(self._held_out, tell)
        reward = float(answers.rewards.mean(dtype=np.float64))
        length = float(np.mean([len(answer.ids) for answer in answers.drawn]))
        return -reward, {
            "reward": reward,
            "passed": float(answers.passed.mean()),
            "length": length,
        }

    def note(self, metrics: Mapping[str, float]) -> None:
        """Learn what a step on the newest rollout told, of which the divergence is watched."""
        self._divergence = metrics.get("kl", 0.0)

    def name(self, rollout: Rollout, item: int) -> str:
        """Return what to call an item in messages."""
        return f"an answer to {self._training.name(rollout.prompts[item])}"

    def state(self) -> State:
        """Return what later rollouts depend on besides weights and seed."""
        watch = [self._divergence, *self._watch.state()]
        return {"watch": torch.tensor(watch, dtype=torch.float64), **self._finish.state()}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        self._divergence, *watch = state["watch"].tolist()
        self._watch.load_state(watch)
        self._finish.load_state(state)

    def _with_spread(
        self, answers: Answers, number: int, chosen: Sequence[int]
    ) -> tuple[Answers, int]:
        """Replace groups that teach nothing by such that do, as far as a few draws bring some."""
        kept, n_asked = [answers], len(chosen)
        others = np.setdiff1d(np.arange(len(self._training.rows)), chosen)
        others = np.random.default_rng([self._speaker.seed, number]).permutation(others)
        for attempt in range(1, _REDRAWS + 1):
            missing = len(chosen) - sum(sum(part.has_spread()) for part in kept)
            more, others = others[:missing], others[missing:]
            if not len(more):
                break
            n_asked += len(more)
            kept.append(self._speaker.answer(self._training, more.tolist(), number, attempt))
        drawn = Answers.concatenate(kept)
        teaches = np.array(drawn.has_spread())
        if not teaches.any():
            return answers, n_asked
        groups = [group for group, is_good in zip(drawn.groups(), teaches, strict=True) if is_good]
        places = [np.arange(group.start, group.stop) for group in groups[: len(chosen)]]
        return drawn.select(np.concatenate(places)), n_asked

    def _tell_unjudged(self, answers: Answers) -> None:
        if answers.n_unjudged and not self._has_warned:
            self._has_warned = True
            self._sink(
                Warned(
                    f"{answers.n_unjudged} of {answers.n_unjudged + len(answers)} answers could "
                    f"not be judged and count as not drawn: {answers.problem}"
                )
            )

    def _samples(self, answers: Answers, advantages: Column) -> tuple[dict[str, Any], ...]:
        return tuple(
            {
                "row": self._training.name(int(answers.prompts[at])),
                "prompt": self._training.text(int(answers.prompts[at])),
                "answer": answers.texts[at],
                "reward": round(float(answers.rewards[at]), 6),
                "passed": bool(answers.passed[at]),
                "advantage": round(float(advantages[at]), 6),
            }
            for at in range(len(answers))
        )


def log_probs_along(model: Any, items: Items) -> Column:
    """Return the log-probability of each trained token, 0 elsewhere, end to end."""
    (found,) = along_answers(
        lambda batch: (log_probs_on(model, batch),), items, next(model.parameters()).device
    )
    return found


def _whitened(values: Column, is_meant: np.ndarray[Any, np.dtype[np.bool_]]) -> Column:
    """Return values with mean 0 and standard deviation 1 where they are meant, 0 elsewhere."""
    meant = values[is_meant]
    found = np.zeros_like(values)
    found[is_meant] = (meant - meant.mean()) / (meant.std() + 1e-8)
    return found


def _signals(answers: Answers, has_groups: bool, divergence: float) -> Signals:
    # Single answers are compared with those to other prompts.
    spread = answers.has_spread() if has_groups else [bool(np.ptp(answers.rewards) > 0)]
    return Signals(
        length=float(np.mean([len(answer.ids) for answer in answers.drawn])),
        cut_off=float(np.mean([answer.ended == "length" for answer in answers.drawn])),
        repetition=repetition(answers.drawn),
        alike=1 - sum(spread) / len(spread),
        reward=float(answers.rewards.mean(dtype=np.float64)),
        divergence=divergence,
    )
