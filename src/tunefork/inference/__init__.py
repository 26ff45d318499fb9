"""Batched decoding and scoring, for evaluation now and serving later."""

from tunefork.inference.chat_model import Answer, ChatModel
from tunefork.inference.generate import Decoding, Generated, generate
from tunefork.inference.score import RowScore, score_rows

__all__ = [
    "Answer",
    "ChatModel",
    "Decoding",
    "Generated",
    "RowScore",
    "generate",
    "score_rows",
]
