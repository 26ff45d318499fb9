"""Continued pre-training: make plain texts likely, token by token."""

from __future__ import annotations

from typing import ClassVar

from tunefork.data import Kind
from tunefork.objectives.sft import Sft


class Pretrain(Sft):
    """The objective: that of `Sft`, for texts instead of conversations.

    A text never sees another, however many are packed into one row. A text longer than
    `training.max_length` comes in pieces that do not overlap and do not see each other.
    """

    name = "pretrain"
    kind: ClassVar[Kind] = "text"
