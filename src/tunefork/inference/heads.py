"""Models that end in a head: texts in, labels out; conversations in, rewards out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunefork.core.errors import ModelError, Where
from tunefork.data import Example, Message, Rendered, TokenRows
from tunefork.inference.chat_model import Answer, ChatModel
from tunefork.inference.generate import Decoding
from tunefork.models import collate, pack
from tunefork.models.heads import Head

_MICRO_TOKENS = 4096


@dataclass(frozen=True)
class Label:
    """What a classifier says of a text: the likeliest label, and how likely it is."""

    name: str
    probability: float
    is_in_scope: bool = True  # likelier than what the classifier asks for

    def __str__(self) -> str:
        share = f"{self.probability:.0%}"
        return f"{self.name} ({share})" if self.is_in_scope else f"none (at most {self})"


@dataclass(frozen=True, kw_only=True)
class Classifier(ChatModel):
    """A model that answers with a label.

    Attributes:
        head: One output per label.
        labels: Their names.
        threshold: The least probability of a label that is given; below it there is none.
    """

    head: Head
    labels: tuple[str, ...]
    threshold: float = 0.0

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        decoding: Decoding,
        *,
        on_answer: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Answer each conversation with the name of its label, or with nothing.

        Args:
            conversations: Messages up to the answer.
            decoding: Not used: nothing is drawn.
            on_answer: Told how many answers are complete.
        """
        found = self.classify(conversations, on_answer)
        return [Answer(each.name if each.is_in_scope else "", "stop") for each in found]

    def classify(
        self,
        conversations: Sequence[Sequence[Message]],
        on_rows: Callable[[int], None] | None = None,
    ) -> list[Label]:
        """Return the label of each conversation."""
        if not conversations:
            return []
        prompts = [self.renderer.prompt(self.behind(each)) for each in conversations]
        # Of a text that is too long the end stays: it holds the turn that asks for the label.
        kept = [ids[-self.max_length :] if self.max_length else ids for ids in prompts]
        rows = TokenRows.from_rendered(Rendered(ids, [0.0] * len(ids)) for ids in kept)
        best, at = probabilities(self, rows, on_rows).max(dim=1)
        return [
            Label(self.labels[number], share, share >= self.threshold)
            for number, share in zip(at.tolist(), best.tolist(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class RewardModel(ChatModel):
    """A model that says how good an answer is, and gives none itself; its head has one output."""

    head: Head

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        decoding: Decoding,
        *,
        on_answer: Callable[[int], None] | None = None,
    ) -> list[Answer]:
        """Refuse.

        Raises:
            ModelError: Where there is anything to answer.
        """
        if conversations:
            raise ModelError(
                "a reward model judges answers and gives none",
                hint="use it as the reward of another model's training",
            )
        return []


def score_conversations(
    chat: RewardModel, conversations: Sequence[Sequence[Message]]
) -> list[float]:
    """Return the reward of the last answer of each conversation, its last message."""
    drafts = [Example(chat.behind(each), Where("conversation")) for each in conversations]
    ids = [chat.renderer.render(draft).ids for draft in drafts]
    # Of a conversation that is too long the end stays: it holds the answer.
    kept = [each[-chat.max_length :] if chat.max_length else each for each in ids]
    if not kept:
        return []
    rows = TokenRows.from_rendered(Rendered(each, [0.0] * len(each)) for each in kept)
    rewards: list[float] = head_outputs(chat.model, chat.head, rows).squeeze(1).tolist()
    return rewards


def probabilities(
    chat: Classifier, rows: TokenRows, on_rows: Callable[[int], None] | None = None
) -> torch.Tensor:
    """Return the probability of each label for each row: (rows, labels)."""
    return head_outputs(chat.model, chat.head, rows, on_rows).softmax(dim=1)


@torch.no_grad()
def head_outputs(
    model: Any,
    head: Head,
    rows: TokenRows,
    on_rows: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Return what a head makes of each row's last token: (rows, outputs) float32 on the CPU."""
    found = torch.empty(len(rows), len(head.weight))
    done = 0
    for chosen in pack(rows, range(len(rows)), _MICRO_TOKENS):
        found[chosen] = head.of(model, collate(rows, chosen, model.device)).cpu()
        done += len(chosen)
        if on_rows is not None:
            on_rows(done)
    return found
