"""The rules behind `auto`: numbers from the sizes of base and data. `docs/plan.md` says why."""

from __future__ import annotations

import math
from typing import NamedTuple

_SMALL_STEP, _MANY_STEPS = 2048, 2000  # tokens; where a pass has more such steps, they grow
_SLOWEST = 0.5  # times the learning rate, in a long run
_LEAST_STEPS_OF_LABELS = 1000  # a label is one number to learn from, an answer many
_LABELLED_ROWS = 32  # texts with labels in a step, at most
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 8192  # tokens
_LEAST_EPOCHS, _MOST_EPOCHS = 3, 15
_MOST_EPOCHS_OF_PAIRS = 5  # a preference is learned in few passes; more only leave the base
_SMALL_HIDDEN = 512
_USUAL_HIDDEN = 2000  # where a config does not say
_ROUND_TO = 64  # tokens
_LORA_SCALE, _MOST_ALPHA = 2.0, 32.0  # alpha / rank; and alpha, as in the published experiments
_BOTTLENECK_SHARE = 8  # of the hidden size
_PREFIX_TOKENS = 128


class _Pace(NamedTuple):
    """How a strategy learns from small data."""

    per_pass: int  # steps, at least
    least: int  # steps of a run
    rate: float = 1.0  # times the learning rate of a longer run


_SHORT = _Pace(30, 240, 1.5)  # a short run takes 1.5 times the rate ("LoRA Without Regret")
_LONG = _Pace(20, 300)
_MANY_UPDATES = _Pace(60, 900)  # for a prefix it is updates that count, not tokens (measured)
_PACES = {
    "lora": _SHORT,
    "qlora": _SHORT,
    "full": _SHORT,
    "bottleneck": _LONG,
    "prefix": _MANY_UPDATES,
}
# Times LoRA's learning rate.
_RATE_FACTORS = {"lora": 1.0, "qlora": 1.0, "full": 0.1, "prefix": 40.0, "bottleneck": 2.0}
FROM_REWARDS = ("grpo", "ppo")
_ROLLOUTS = 150  # over a run
_MOST_EPOCHS_OF_PROMPTS = 50  # each pass over the prompts draws other answers
_VALIDATIONS = 15  # over a run that learns from rewards
_REWARD_FACTOR = 0.4  # of the learning rate: each rollout has to be learned from near its policy
WORD_FOR_WORD = ("sft", "pretrain")  # objectives that learn given words
_LEAST_RANK_OF_SMALL, _LEAST_RANK, _MOST_RANK = 8, 16, 128
_ROOM = 2  # LoRA's parameters for each token that is learned from
_MOST_SHARE = 0.25  # of the base's parameters, in an adapter
PREFERENCES = ("dpo", "kto", "orpo", "simpo")  # objectives that compare or judge answers


def learning_rate(
    hidden_size: int | None,
    strategy: str,
    answer_tokens: float = 1.0,
    objective: str = "sft",
    steps: int = 1,
) -> float:
    """Return the starting point for a learning rate.

    For LoRA 5e-4 * (2000 / hidden size)^0.78, and a tenth of it for full fine-tuning: the fit
    over Llama models in "LoRA Without Regret" (Thinking Machines Lab, 2025). Where whole answers
    are compared or judged, it is divided by the root of their mean length: what a step does to an
    answer's log-probability adds up over its tokens (measured, see docs/objectives.md). Learning
    from rewards takes 0.4 of it. What learns words moves as far in a long run as in the shortest:
    the rate falls as the steps grow, from 1.5 times that in a short run to half of it, since many
    steps at a high rate cost general knowledge (measured).
    """
    rate = 5e-4 * (2000 / (hidden_size or _USUAL_HIDDEN)) ** 0.78
    factor = _REWARD_FACTOR if objective in FROM_REWARDS else 1.0
    if objective in WORD_FOR_WORD:
        pace = _PACES[strategy]
        factor = max(_SLOWEST, pace.rate * min(1.0, pace.least / steps))
    return float(f"{rate * _RATE_FACTORS[strategy] * factor / answer_tokens**0.5:.1e}")


def rank(hidden_size: int | None, per_rank: int = 1, n_learned: int = 0) -> int:
    """Return LoRA's rank: a power of two that gives it two parameters per token learned from.

    What is learned must find room in the parameters ("LoRA Without Regret"; how much was measured,
    see docs/log.md). At least 16, or 8 for small bases, whose matrices are small too; at most 128
    and a quarter of the hidden size, or the next power of two below it.

    Args:
        hidden_size: Of the base.
        per_rank: Parameters of LoRA of rank 1.
        n_learned: Tokens of an epoch that have to be predicted.
    """
    hidden = hidden_size or _SMALL_HIDDEN
    least = _LEAST_RANK_OF_SMALL if hidden < _SMALL_HIDDEN else _LEAST_RANK
    wanted = 1 << math.ceil(math.log2(max(1.0, _ROOM * n_learned / per_rank)))
    most = 1 << int(math.log2(max(1, hidden // 4)))
    return max(least, min(wanted, _MOST_RANK, most))


def outgrows(rank: int, adapter_parameters: int, base_parameters: int) -> bool:
    """Say whether there is so much to learn that LoRA would be about as large as its base.

    With more than a quarter of the base's parameters its file, in float32 beside a base in bf16,
    is more than half as large as the base; and from so much data full fine-tuning learns more
    (Biderman et al. 2024, arXiv 2405.09673; measured on customer support). The least rank is not
    asked for by the data.
    """
    return rank > _LEAST_RANK and adapter_parameters > _MOST_SHARE * base_parameters


def alpha(rank: int, *, is_rslora: bool) -> float:
    """Return LoRA's alpha: twice the rank, and 32 at most, which rates were fitted with.

    With rsLoRA, whose factor is alpha / sqrt(rank), the change is scaled by 2 at every rank
    (Kalajdzievski 2023, arXiv 2312.03732).
    """
    return _LORA_SCALE * rank**0.5 if is_rslora else min(_LORA_SCALE * rank, _MOST_ALPHA)


def prefix_tokens(max_length: int | None) -> int:
    """Return the length of a learned prefix, which takes room from the base's longest row."""
    return _PREFIX_TOKENS if max_length is None else min(_PREFIX_TOKENS, max(1, max_length // 4))


def bottleneck_size(hidden_size: int | None) -> int:
    """Return the width of a bottleneck adapter."""
    return max(1, (hidden_size or _USUAL_HIDDEN) // _BOTTLENECK_SHARE)


def batch_tokens(
    n_tokens: int, strategy: str = "lora", objective: str = "sft", row_tokens: float = 0.0
) -> int:
    """Return the tokens of an optimizer step.

    Args:
        n_tokens: Of an epoch.
        strategy: What is trained.
        objective: What is learned: of texts with labels a step holds few, however short they are.
        row_tokens: Of a row, on average.
    """
    wanted = n_tokens / _pace(strategy, objective).per_pass
    if objective in WORD_FOR_WORD:
        wanted = min(wanted, max(_SMALL_STEP, n_tokens / _MANY_STEPS))
    if objective == "classify":
        wanted = min(wanted, _LABELLED_ROWS * row_tokens)
    rounded = round(wanted / _ROUND_TO) * _ROUND_TO
    return min(max(rounded, _SMALLEST_BATCH), _LARGEST_BATCH)


def epochs(steps_per_epoch: int, objective: str = "sft", strategy: str = "lora") -> int:
    """Return the number of passes over the data."""
    if objective in FROM_REWARDS:
        return min(max(round(_ROLLOUTS / steps_per_epoch), 1), _MOST_EPOCHS_OF_PROMPTS)
    most = _MOST_EPOCHS_OF_PAIRS if objective in PREFERENCES else _MOST_EPOCHS
    steps = _pace(strategy, objective).least
    return min(max(round(steps / steps_per_epoch), _LEAST_EPOCHS), most)


def _pace(strategy: str, objective: str) -> _Pace:
    if objective in WORD_FOR_WORD:
        return _PACES[strategy]
    pace = _MANY_UPDATES if strategy == "prefix" else _LONG
    if objective == "classify":
        return pace._replace(least=_LEAST_STEPS_OF_LABELS * pace.least // _LONG.least)
    return pace


def rollouts_between(rollouts: int) -> int:
    """Return after how many rollouts a policy is measured again."""
    return max(1, round(rollouts / _VALIDATIONS))
