"""Turn `auto` into numbers, by rules that are stated here and printed with the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tunefork.core.memory import free_bytes
from tunefork.evaluation import Setting
from tunefork.workflow.spec import LoraSpec, Spec

if TYPE_CHECKING:  # both import torch
    from tunefork.models import Base
    from tunefork.strategies import Strategy
    from tunefork.training import TrainingData, TrainSettings

_STEPS_PER_EPOCH = 20  # small data still gets a useful number of updates from each pass
_LEAST_STEPS = 300  # what a small data set needs to be learned; more data needs fewer passes
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 8192  # tokens
_LEAST_EPOCHS, _MOST_EPOCHS = 3, 15
_LONGEST_ROW = 2048  # tokens; longer rows are asked for by name, since memory grows with them
_SMALL_HIDDEN = 512
_CPU_ACTIVATIONS = 1 << 30  # bytes
_GPU_ACTIVATIONS = 16 << 30
_LEAST_AT_ONCE, _MOST_AT_ONCE_CPU, _MOST_AT_ONCE_GPU = 512, 2048, 32768  # tokens
_FREE_TO_USE = 0.7  # of the memory that is free
_ROUND_TO = 64  # tokens

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Derived:
    """Everything a run is started with."""

    settings: TrainSettings
    strategy: Strategy
    origins: tuple[Setting, ...]  # each value and where it comes from


def longest_row(spec: Spec, base: Base) -> int:
    """Return the longest row to train on, in tokens."""
    limit = base.max_length
    if spec.training.max_length != "auto":
        given = spec.training.max_length
        return given if limit is None else min(given, limit)
    return _LONGEST_ROW if limit is None else min(limit, _LONGEST_ROW)


def derive(spec: Spec, base: Base, data: TrainingData) -> Derived:
    """Return the settings of a run over the data."""
    from tunefork.training import TrainSettings

    n_tokens, has_validation = data.tokens_per_epoch, data.validation is not None
    values = _Values()
    strategy = _strategy(spec, base, values)
    training = spec.training
    learning_rate = values.choose(
        "learning_rate", training.learning_rate, learning_rate_for(base, strategy.name)
    )
    batch_tokens = values.choose("batch_tokens", training.batch_tokens, _batch_tokens(n_tokens))
    steps_per_epoch = max(1, round(n_tokens / batch_tokens))
    epochs = values.choose("epochs", training.epochs, _epochs(steps_per_epoch))
    max_length = longest_row(spec, base)
    values.add("max_length", max_length, max_length == training.max_length)
    micro_tokens, recompute = room(base, max_length)
    settings = TrainSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        micro_tokens=min(micro_tokens, batch_tokens),
        recompute=recompute,
        validate_every=max(1, steps_per_epoch // 2) if has_validation else 0,
        checkpoint_every=max(10, steps_per_epoch // 2),
        patience=6 if has_validation else 0,
        seed=training.seed,
    )
    values.add("seed", training.seed, "seed" in training.model_fields_set)
    return Derived(settings, strategy, tuple(values.rows))


def learning_rate_for(base: Base, strategy: str) -> float:
    """Return the starting point for a learning rate.

    For LoRA 5e-4 * (2000 / hidden size)^0.78, and a tenth of it for full fine-tuning: the fit
    over Llama models in "LoRA Without Regret" (Thinking Machines Lab, 2025).
    """
    rate = 5e-4 * (2000 / (base.hidden_size or 2000)) ** 0.78
    return float(f"{rate if strategy == 'lora' else rate / 10:.1e}")


def _strategy(spec: Spec, base: Base, values: _Values) -> Strategy:
    from tunefork.strategies import Full, Lora, LoraSettings

    chosen = spec.strategy
    is_given = "strategy" in spec.model_fields_set and chosen.name != "auto"
    values.add("strategy", "full" if chosen.name == "full" else "lora", is_given)
    if chosen.name == "full":
        return Full()
    given = chosen if isinstance(chosen, LoraSpec) else LoraSpec(name="lora")
    is_small = (base.hidden_size or _SMALL_HIDDEN) < _SMALL_HIDDEN
    rank = values.choose("rank", given.rank, 8 if is_small else 16)
    alpha = values.choose("alpha", given.alpha, 2.0 * rank)
    return Lora(LoraSettings(rank=rank, alpha=alpha, dropout=given.dropout, targets=given.targets))


def room(base: Base, max_length: int) -> tuple[int, bool]:
    """Return how many tokens to compute at once, and whether to keep little of them.

    As many as keep activations within a bound past which nothing gets faster; and little is kept
    where activations of that many, or of the longest row, would fill the memory that is free.
    """
    import torch

    from tunefork.models.memory import activation_bytes_per_token

    per_token = activation_bytes_per_token(base.config)
    if torch.cuda.is_available():
        free, bound, most = torch.cuda.mem_get_info()[0], _GPU_ACTIVATIONS, _MOST_AT_ONCE_GPU
    else:
        free, bound, most = free_bytes(), _CPU_ACTIVATIONS, _MOST_AT_ONCE_CPU
    fitting = round(bound / per_token / _ROUND_TO) * _ROUND_TO
    micro_tokens = min(max(fitting, _LEAST_AT_ONCE), most)
    needed = per_token * max(micro_tokens, max_length) + 2 * base.weight_bytes
    return micro_tokens, needed > _FREE_TO_USE * free


def _batch_tokens(n_tokens: int) -> int:
    wanted = round(n_tokens / _STEPS_PER_EPOCH / _ROUND_TO) * _ROUND_TO
    return min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)


def _epochs(steps_per_epoch: int) -> int:
    return min(max(round(_LEAST_STEPS / steps_per_epoch), _LEAST_EPOCHS), _MOST_EPOCHS)


class _Values:
    """Collects each value together with its origin."""

    def __init__(self) -> None:
        self.rows: list[Setting] = []

    def choose(self, key: str, given: _Number | str, derived: _Number) -> _Number:
        value = derived if isinstance(given, str) else given
        self.add(key, value, not isinstance(given, str))
        return value

    def add(self, key: str, value: object, is_given: bool) -> None:
        self.rows.append(Setting(key, f"{value}", "given" if is_given else "derived"))
