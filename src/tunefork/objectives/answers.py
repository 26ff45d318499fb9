"""Answers that a policy draws to prompts, what they earn, and the rows of tokens they become."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.core.errors import RunError
from tunefork.data import Items, Renderer, TokenRows
from tunefork.data.items import Column
from tunefork.inference import Decoding, Drawn, draw, generate
from tunefork.models import Batch, collate, pack

_MICRO_TOKENS = 4096  # computed at once where there is no way back


@dataclass(frozen=True)
class Mark:
    """What one answer earned.

    Attributes:
        reward: None where nothing can be said of the answer.
        passed: Whether it is good enough.
        problem: Why there is no reward.
    """

    reward: float | None
    passed: bool = False
    problem: str = ""


# The numbers of prompts, and an answer to each.
Judge = Callable[[Sequence[int], Sequence[str]], Sequence[Mark]]


@dataclass(frozen=True)
class Asked:
    """Prompts, and who judges answers to them."""

    rows: TokenRows
    judge: Judge
    name: Callable[[int], str]  # where in its file a prompt stands
    text: Callable[[int], str]  # what it asks


@dataclass(frozen=True)
class Answers:
    """Answers that could be judged, those to one prompt side by side."""

    prompts: NDArray[np.int64]  # (answers,): the number of each one's prompt
    drawn: tuple[Drawn, ...]
    texts: tuple[str, ...]
    rewards: NDArray[np.float32]  # (answers,)
    passed: NDArray[np.bool_]  # (answers,)
    n_unjudged: int = 0
    problem: str = ""  # of one that could not be judged

    def __len__(self) -> int:
        return len(self.drawn)

    def groups(self) -> list[slice]:
        """Return where the answers to each prompt stand."""
        cuts = [0, *(1 + np.flatnonzero(np.diff(self.prompts))).tolist(), len(self)]
        return [slice(begin, end) for begin, end in itertools.pairwise(cuts) if end > begin]

    def has_spread(self) -> list[bool]:
        """Say of each group whether its answers earned differently."""
        return [bool(np.ptp(self.rewards[group]) > 0) for group in self.groups()]

    def rows(self, asked: Asked) -> Items:
        """Return them as `answer_rows`."""
        return answer_rows(self.prompts.tolist(), self.drawn, asked.rows)

    def select(self, chosen: NDArray[np.int64]) -> Answers:
        """Return some of them."""
        return Answers(
            self.prompts[chosen],
            tuple(self.drawn[at] for at in chosen),
            tuple(self.texts[at] for at in chosen),
            self.rewards[chosen],
            self.passed[chosen],
            self.n_unjudged,
            self.problem,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Answers]) -> Answers:
        """Return the answers of several sets."""
        return cls(
            np.concatenate([part.prompts for part in parts]),
            tuple(each for part in parts for each in part.drawn),
            tuple(each for part in parts for each in part.texts),
            np.concatenate([part.rewards for part in parts]),
            np.concatenate([part.passed for part in parts]),
            sum(part.n_unjudged for part in parts),
            next((part.problem for part in parts if part.problem), ""),
        )


@dataclass(frozen=True)
class Speaker:
    """The model in training, as far as it answers.

    Attributes:
        model: As it is: what is drawn from it follows its weights.
        renderer: Makes text of tokens, and knows which token ends an answer.
        n_answers: How many are drawn to each prompt.
        max_tokens: Of an answer, the token that ends it included.
        seed: With a number for each rollout it decides what is drawn.
    """

    model: Any
    renderer: Renderer
    n_answers: int
    max_tokens: int
    seed: int

    def answer(self, asked: Asked, chosen: Sequence[int], *key: int) -> Answers:
        """Draw answers to some prompts, and have them judged.

        Raises:
            RunError: Not one of them could be judged.
        """
        numbers = np.repeat(np.asarray(chosen, np.int64), self.n_answers)
        drawn = self.draw(asked, chosen, *key)
        texts = [self.renderer.parse(answer.ids)[0] for answer in drawn]
        marks = asked.judge(numbers.tolist(), texts)
        return _judged(numbers, drawn, texts, marks)

    def draw(self, asked: Asked, chosen: Sequence[int], *key: int) -> list[Drawn]:
        """Draw answers to some prompts, those to one side by side."""
        self.model.eval()
        return draw(
            self.model,
            [asked.rows.row(number)[0].tolist() for number in chosen],
            self.renderer.end_ids,
            n_answers=self.n_answers,
            max_tokens=self.max_tokens,
            seeds=[self._seed(*key, number, each) for number in chosen for each in self._each()],
        )

    def greedy(self, asked: Asked, told: Callable[[int], None] | None) -> Answers:
        """Return the likeliest answer to each prompt, judged.

        Raises:
            RunError: Not one of them could be judged.
        """
        self.model.eval()
        numbers = np.arange(len(asked.rows))
        found = generate(
            self.model,
            [asked.rows.row(number)[0].tolist() for number in range(len(asked.rows))],
            self.renderer.end_ids,
            Decoding(max_new_tokens=self.max_tokens),
            on_answer=told,
        )
        texts = [self.renderer.parse(answer.ids)[0] for answer in found]
        marks = asked.judge(numbers.tolist(), texts)
        return _judged(numbers, [Drawn(each.ids, each.ended) for each in found], texts, marks)

    def _each(self) -> range:
        return range(self.n_answers)

    def _seed(self, *key: int) -> int:
        return int(np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)[0] >> 1)


def _judged(
    numbers: NDArray[np.int64],
    drawn: Sequence[Drawn],
    texts: Sequence[str],
    marks: Sequence[Mark],
) -> Answers:
    kept = [at for at, mark in enumerate(marks) if mark.reward is not None]
    problem = next((mark.problem for mark in marks if mark.reward is None), "")
    if not kept:
        raise RunError(
            f"not one of {len(marks)} answers could be judged: {problem}",
            hint="repair what gives the rewards; weights until then are kept in the run's folder, "
            "and `--resume` goes on",
        )
    return Answers(
        numbers[kept],
        tuple(drawn[at] for at in kept),
        tuple(texts[at] for at in kept),
        np.array([marks[at].reward for at in kept], np.float32),
        np.array([marks[at].passed for at in kept], np.bool_),
        len(marks) - len(kept),
        problem,
    )


def answer_rows(numbers: Sequence[int], drawn: Sequence[Drawn], prompts: TokenRows) -> Items:
    """Return each answer behind its prompt as an item; the answer's tokens are trained."""
    rows = [
        (prompts.row(number)[0], np.asarray(answer.ids, np.int32))
        for number, answer in zip(numbers, drawn, strict=True)
    ]
    lengths = [len(prompt) + len(answer) for prompt, answer in rows]
    weights = [
        np.concatenate([np.zeros(len(prompt), np.float32), np.ones(len(answer), np.float32)])
        for prompt, answer in rows
    ]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.concatenate([part for row in rows for part in row])
    return Items(TokenRows(ids, np.concatenate(weights), offsets))


@torch.no_grad()
def along_answers(
    compute: Callable[[Batch], Sequence[torch.Tensor]], items: Items, device: torch.device
) -> list[Column]:
    """Return numbers along rows that end in their trained tokens, 0 elsewhere, end to end.

    Args:
        compute: Gives of a batch some tensors of (predictions,).
        items: The rows, an item each.
        device: Where to compute.
    """
    ends = np.cumsum(items.rows.lengths)
    found: list[Column] = []
    for chosen in pack(items, range(len(items)), _MICRO_TOKENS):
        batch = collate(items, chosen, device)
        counts = np.bincount(batch.documents.cpu().numpy(), minlength=len(chosen))
        places = np.concatenate(
            [np.arange(ends[row] - n, ends[row]) for row, n in zip(chosen, counts, strict=True)]
        )
        values = compute(batch)
        found = found or [np.zeros(int(ends[-1]), np.float32) for _ in values]
        for column, each in zip(found, values, strict=True):
            column[places] = each.float().cpu().numpy()
    return found
