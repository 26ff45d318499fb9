"""Batched decoding and scoring, for evaluation now and serving later."""

from tunefork.inference.chat_model import Answer, ChatModel, join
from tunefork.inference.distribution import mean_divergence, next_token_log_probs
from tunefork.inference.embed import TextEmbedder, load_embedder
from tunefork.inference.generate import Decoding, Generated, generate
from tunefork.inference.heads import (
    Classifier,
    Label,
    RewardModel,
    head_outputs,
    score_conversations,
)
from tunefork.inference.score import RowScore, score_rows

__all__ = [
    "Answer",
    "ChatModel",
    "Classifier",
    "Decoding",
    "Generated",
    "Label",
    "RewardModel",
    "RowScore",
    "TextEmbedder",
    "generate",
    "head_outputs",
    "join",
    "load_embedder",
    "mean_divergence",
    "next_token_log_probs",
    "score_conversations",
    "score_rows",
]
