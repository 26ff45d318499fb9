"""What is learned: each objective returns a loss sum, its weight, and metrics."""

from tunefork.objectives.answers import Asked, Mark, Speaker
from tunefork.objectives.classify import LABEL, Classify, class_weights, without_answers
from tunefork.objectives.classify_names import ClassifyNames
from tunefork.objectives.classify_several import ClassifySeveral, label_weights
from tunefork.objectives.dpo import Dpo
from tunefork.objectives.grpo import Grpo
from tunefork.objectives.kto import Kto
from tunefork.objectives.orpo import Orpo
from tunefork.objectives.ppo import Ppo
from tunefork.objectives.pretrain import Pretrain
from tunefork.objectives.protocol import REFERENCE, Loss, Objective
from tunefork.objectives.reference import with_reference
from tunefork.objectives.replay import REPLAYED, WithReplay, is_replayed_apart, replayed
from tunefork.objectives.reward import Reward
from tunefork.objectives.rollouts import Expectations, Groups, Rollout, Rollouts
from tunefork.objectives.sft import Sft
from tunefork.objectives.simpo import Simpo
from tunefork.objectives.watch import Watch

__all__ = [
    "LABEL",
    "REFERENCE",
    "REPLAYED",
    "Asked",
    "Classify",
    "ClassifyNames",
    "ClassifySeveral",
    "Dpo",
    "Expectations",
    "Groups",
    "Grpo",
    "Kto",
    "Loss",
    "Mark",
    "Objective",
    "Orpo",
    "Ppo",
    "Pretrain",
    "Reward",
    "Rollout",
    "Rollouts",
    "Sft",
    "Simpo",
    "Speaker",
    "Watch",
    "WithReplay",
    "class_weights",
    "is_replayed_apart",
    "label_weights",
    "replayed",
    "with_reference",
    "without_answers",
]
