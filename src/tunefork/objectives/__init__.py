"""What is learned: each objective returns a loss sum, its weight, and metrics."""

from tunefork.objectives.classify import LABEL, Classify, class_weights
from tunefork.objectives.dpo import Dpo
from tunefork.objectives.kto import Kto
from tunefork.objectives.orpo import Orpo
from tunefork.objectives.pretrain import Pretrain
from tunefork.objectives.protocol import REFERENCE, Loss, Objective
from tunefork.objectives.reference import with_reference
from tunefork.objectives.replay import REPLAYED, WithReplay, is_replayed_apart, replayed
from tunefork.objectives.reward import Reward
from tunefork.objectives.sft import Sft
from tunefork.objectives.simpo import Simpo

__all__ = [
    "LABEL",
    "REFERENCE",
    "REPLAYED",
    "Classify",
    "Dpo",
    "Kto",
    "Loss",
    "Objective",
    "Orpo",
    "Pretrain",
    "Reward",
    "Sft",
    "Simpo",
    "WithReplay",
    "class_weights",
    "is_replayed_apart",
    "replayed",
    "with_reference",
]
