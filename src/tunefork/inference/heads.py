"""Models that end in a head: what it makes of rows, and conversations in, rewards out."""

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
                hint="`tunefork score MODEL FILE` lets it judge answers that are there",
            )
        return []


def score_conversations(
    chat: RewardModel,
    conversations: Sequence[Sequence[Message]],
    on_rows: Callable[[int], None] | None = None,
) -> list[float]:
    """Return the reward of the last answer of each conversation, its last message."""
    drafts = [Example(chat.behind(each), Where("conversation")) for each in conversations]
    ids = [chat.renderer.render(draft).ids for draft in drafts]
    # Of a conversation that is too long the end stays: it holds the answer.
    kept = [each[-chat.max_length :] if chat.max_length else each for each in ids]
    if not kept:
        return []
    rows = TokenRows.from_rendered(Rendered(each, [0.0] * len(each)) for each in kept)
    rewards: list[float] = head_outputs(chat.model, chat.head, rows, on_rows).squeeze(1).tolist()
    return rewards


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
