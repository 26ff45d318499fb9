"""Models that tell labels: texts in, labels and their probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.core.errors import Where
from tunefork.data import Example, Message, Rendered, Renderer, TokenRows
from tunefork.inference.chat_model import Answer, ChatModel
from tunefork.inference.generate import Decoding
from tunefork.inference.heads import head_outputs
from tunefork.models import collate
from tunefork.models.heads import Head
from tunefork.models.log_probs import row_log_probs

_MICRO_TOKENS = 4096


class Scorer(Protocol):
    """What tells labels: a head, or the model's own words."""

    @property
    def n_tokens(self) -> int:
        """The tokens that it puts behind a text."""
        ...

    def __call__(
        self, model: Any, prompts: TokenRows, on_rows: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the probability of each label for each text: (texts, labels) on the CPU."""
        ...


@dataclass(frozen=True)
class HeadScorer:
    """A head with one output per label; of several labels each is told for itself."""

    head: Head
    is_several: bool = False

    n_tokens = 0

    def __call__(
        self, model: Any, prompts: TokenRows, on_rows: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the probabilities (see `Scorer`)."""
        found = head_outputs(model, self.head, prompts, on_rows)
        return found.sigmoid() if self.is_several else found.softmax(dim=1)


@dataclass(frozen=True)
class NameScorer:
    """The model's own words: how likely it writes each label's name, against all other names.

    p(label | text) = p(name | text) / sum of p(name' | text) over all names. What the model could
    write besides has no part in it, so that the answer always is one of the labels. The names
    stand behind one copy of the text.

    Attributes:
        names: The tokens that answer with each label, its end included.
    """

    names: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, renderer: Renderer, labels: Sequence[str]) -> NameScorer:
        """Return one for the names of labels."""
        asked = Message("user", "?")
        begin = len(renderer.prompt((asked,)))
        rows = [
            renderer.render(Example((asked, Message("assistant", name)), Where("label")))
            for name in labels
        ]
        trained = [np.flatnonzero(row.weights) for row in rows]
        return cls(
            tuple(
                tuple(row.ids[begin : int(places[-1]) + 1])
                for row, places in zip(rows, trained, strict=True)
            )
        )

    @property
    def n_tokens(self) -> int:
        """The tokens of the longest name."""
        return max(map(len, self.names))

    @torch.no_grad()
    def __call__(
        self, model: Any, prompts: TokenRows, on_rows: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the probabilities (see `Scorer`)."""
        found = torch.empty(len(prompts), len(self.names))
        size = int(prompts.lengths.max(initial=0)) + sum(map(len, self.names))
        step = max(1, _MICRO_TOKENS // size)
        for begin in range(0, len(prompts), step):
            end = min(begin + step, len(prompts))
            rows = [row for at in range(begin, end) for row in self._answered(prompts.row(at)[0])]
            batch = collate(TokenRows.from_rendered(rows), range(len(rows)), model.device)
            sums = row_log_probs(model, batch).sums.view(end - begin, -1)
            found[begin:end] = sums.softmax(dim=1).cpu()
            if on_rows is not None:
                on_rows(end)
        return found

    def _answered(self, prompt: NDArray[np.int32]) -> list[Rendered]:
        ids = prompt.tolist()
        return [
            Rendered([*ids, *name], [0.0] * len(ids) + [1.0] * len(name)) for name in self.names
        ]


@dataclass(frozen=True)
class Label:
    """A label of a text, and how likely it is."""

    name: str
    probability: float

    def __str__(self) -> str:
        return f"{self.name} ({self.probability:.0%})"


@dataclass(frozen=True)
class Told:
    """What a classifier says of a text: its labels, the likeliest first.

    `best` is the likeliest one, also where it is too unlikely to be given.
    """

    labels: tuple[Label, ...]
    best: Label

    @property
    def answer(self) -> str:
        """The names; empty where there is none."""
        return ", ".join(label.name for label in self.labels)

    def __str__(self) -> str:
        return ", ".join(map(str, self.labels)) or f"none (at most {self.best})"


@dataclass(frozen=True, kw_only=True)
class Classifier(ChatModel):
    """A model that answers with a label, or with those of several that fit.

    Attributes:
        scorer: What tells how likely each label is.
        labels: Their names.
        thresholds: The least probability at which each is given.
        is_several: Whether a text may have several; else the likeliest alone is given.
    """

    scorer: Scorer
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    is_several: bool = False

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        decoding: Decoding,
        *,
        on_answer: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Answer each conversation with the names of its labels, or with nothing.

        Args:
            conversations: Messages up to the answer.
            decoding: Not used: nothing is drawn.
            on_answer: Told how many answers are complete.
        """
        return [Answer(each.answer, "stop") for each in self.classify(conversations, on_answer)]

    def classify(
        self,
        conversations: Sequence[Sequence[Message]],
        on_rows: Callable[[int], None] | None = None,
    ) -> list[Told]:
        """Return the labels of each conversation."""
        if not conversations:
            return []
        prompts = [self.renderer.prompt(self.behind(each)) for each in conversations]
        rows = TokenRows.from_rendered(Rendered(ids, [0.0] * len(ids)) for ids in prompts)
        return [self._told(shares) for shares in self.probabilities(rows, on_rows).tolist()]

    def probabilities(
        self, prompts: TokenRows, on_rows: Callable[[int], None] | None = None
    ) -> torch.Tensor:
        """Return the probability of each label for each prompt: (prompts, labels)."""
        room = None if self.max_length is None else self.max_length - self.scorer.n_tokens
        if room is not None and len(prompts) and int(prompts.lengths.max()) > room:
            # Of a text that is too long the end stays: it holds the turn that asks for the label.
            kept = [prompts.row(at)[0][-room:].tolist() for at in range(len(prompts))]
            prompts = TokenRows.from_rendered(Rendered(ids, [0.0] * len(ids)) for ids in kept)
        return self.scorer(self.model, prompts, on_rows)

    def _told(self, shares: Sequence[float]) -> Told:
        found = [Label(name, share) for name, share in zip(self.labels, shares, strict=True)]
        best = max(found, key=lambda label: label.probability)
        likely = [
            label
            for label, least in zip(found, self.thresholds, strict=True)
            if label.probability >= least and (self.is_several or label is best)
        ]
        return Told(tuple(sorted(likely, key=lambda label: -label.probability)), best)
