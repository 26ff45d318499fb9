"""The rules behind `auto`: numbers from the sizes of base and data. `docs/plan.md` says why."""

from __future__ import annotations

_STEPS_PER_EPOCH = 20  # small data still gets a useful number of updates from each pass
_LEAST_STEPS = 300  # what a small data set needs to be learned; more data needs fewer passes
_LEAST_STEPS_OF_LABELS = 1000  # a label is one number to learn from, an answer many
_LABELLED_ROWS = 32  # texts with labels in a step, at most
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 8192  # tokens
_LEAST_EPOCHS, _MOST_EPOCHS = 3, 15
_MOST_EPOCHS_OF_PAIRS = 5  # a preference is learned in few passes; more only leave the base
_SMALL_HIDDEN = 512
_USUAL_HIDDEN = 2000  # where a config does not say
_ROUND_TO = 64  # tokens
_LORA_SCALE = 2.0  # alpha / rank, as in the published experiments
_BOTTLENECK_SHARE = 8  # of the hidden size
_PREFIX_TOKENS = 128

# Times LoRA's learning rate.
_RATE_FACTORS = {"lora": 1.0, "qlora": 1.0, "full": 0.1, "prefix": 40.0, "bottleneck": 2.0}
# Times the usual number of steps: for a prefix it is updates that count, not tokens (measured).
_STEP_FACTORS = {"prefix": 3}
FROM_REWARDS = ("grpo", "ppo")
_ROLLOUTS = 150  # over a run
_MOST_EPOCHS_OF_PROMPTS = 50  # each pass over the prompts draws other answers
_VALIDATIONS = 15  # over a run that learns from rewards
_REWARD_FACTOR = 0.4  # of the learning rate: each rollout has to be learned from near its policy
PREFERENCES = ("dpo", "kto", "orpo", "simpo")  # objectives that compare or judge answers


def learning_rate(
    hidden_size: int | None, strategy: str, answer_tokens: float = 1.0, objective: str = "sft"
) -> float:
    """Return the starting point for a learning rate.

    For LoRA 5e-4 * (2000 / hidden size)^0.78, and a tenth of it for full fine-tuning: the fit
    over Llama models in "LoRA Without Regret" (Thinking Machines Lab, 2025). Where whole answers
    are compared or judged, it is divided by the root of their mean length: what a step does to an
    answer's log-probability adds up over its tokens (measured, see docs/objectives.md). Learning
    from rewards takes 0.4 of it.
    """
    rate = 5e-4 * (2000 / (hidden_size or _USUAL_HIDDEN)) ** 0.78
    factor = _REWARD_FACTOR if objective in FROM_REWARDS else 1.0
    return float(f"{rate * _RATE_FACTORS[strategy] * factor / answer_tokens**0.5:.1e}")


def rank(hidden_size: int | None) -> int:
    """Return LoRA's rank: 8 for small bases, whose matrices are small too, else 16."""
    return 8 if (hidden_size or _SMALL_HIDDEN) < _SMALL_HIDDEN else 16


def alpha(rank: int, *, is_rslora: bool) -> float:
    """Return LoRA's alpha, so that the change is scaled by 2 whatever the rank.

    rsLoRA's factor is alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732).
    """
    return _LORA_SCALE * (rank**0.5 if is_rslora else rank)


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
    steps = _STEPS_PER_EPOCH * _STEP_FACTORS.get(strategy, 1)
    wanted = n_tokens / steps
    if objective == "classify":
        wanted = min(wanted, _LABELLED_ROWS * row_tokens)
    rounded = round(wanted / _ROUND_TO) * _ROUND_TO
    return min(max(rounded, _SMALLEST_BATCH), _LARGEST_BATCH)


def epochs(steps_per_epoch: int, objective: str = "sft", strategy: str = "lora") -> int:
    """Return the number of passes over the data."""
    if objective in FROM_REWARDS:
        return min(max(round(_ROLLOUTS / steps_per_epoch), 1), _MOST_EPOCHS_OF_PROMPTS)
    most = _MOST_EPOCHS_OF_PAIRS if objective in PREFERENCES else _MOST_EPOCHS
    least = _LEAST_STEPS_OF_LABELS if objective == "classify" else _LEAST_STEPS
    steps = least * _STEP_FACTORS.get(strategy, 1)
    return min(max(round(steps / steps_per_epoch), _LEAST_EPOCHS), most)


def rollouts_between(rollouts: int) -> int:
    """Return after how many rollouts a policy is measured again."""
    return max(1, round(rollouts / _VALIDATIONS))
