"""Batched decoding and scoring, for evaluation and rewards, and the engine that serves."""

from tunefork.inference.chat_model import Answer, ChatModel, join
from tunefork.inference.classifier import Classifier, HeadScorer, Label, NameScorer, Told
from tunefork.inference.distribution import mean_divergence, next_token_log_probs
from tunefork.inference.embed import TextEmbedder, load_embedder
from tunefork.inference.engine import (
    AdapterPool,
    Alternative,
    Constraint,
    Engine,
    EngineSettings,
    EngineStats,
    Piece,
    Request,
    Sampling,
    Ticket,
    TokenLogProb,
    Usage,
    choice,
    json_object,
    json_schema,
    regex,
)
from tunefork.inference.generate import Decoding, Drawn, Generated, draw, generate
from tunefork.inference.heads import RewardModel, head_outputs, score_conversations
from tunefork.inference.score import RowScore, score_rows

__all__ = [
    "AdapterPool",
    "Alternative",
    "Answer",
    "ChatModel",
    "Classifier",
    "Constraint",
    "Decoding",
    "Drawn",
    "Engine",
    "EngineSettings",
    "EngineStats",
    "Generated",
    "HeadScorer",
    "Label",
    "NameScorer",
    "Piece",
    "Request",
    "RewardModel",
    "RowScore",
    "Sampling",
    "TextEmbedder",
    "Ticket",
    "TokenLogProb",
    "Told",
    "Usage",
    "choice",
    "draw",
    "generate",
    "head_outputs",
    "join",
    "json_object",
    "json_schema",
    "load_embedder",
    "mean_divergence",
    "next_token_log_probs",
    "regex",
    "score_conversations",
    "score_rows",
]
