"""From what a spec says of a strategy to one with every number settled, and to the strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from tunefork.evaluation import Setting
from tunefork.workflow import rules
from tunefork.workflow.strategy_specs import (
    BottleneckSpec,
    ChosenSpec,
    FullSpec,
    LoraSpec,
    PrefixSpec,
)

if TYPE_CHECKING:  # these import torch
    from tunefork.models import Base
    from tunefork.models.quantized import Quantization
    from tunefork.strategies import Strategy

_Number = TypeVar("_Number", int, float)


class Values:
    """Collects each value together with its origin."""

    def __init__(self) -> None:
        self.rows: list[Setting] = []

    def choose(self, key: str, given: _Number | str, derived: _Number) -> _Number:
        """Return the given number, or the derived one where `auto` is given."""
        value = derived if isinstance(given, str) else given
        self.add(key, value, not isinstance(given, str))
        return value

    def add(self, key: str, value: object, is_given: bool) -> None:
        """Note a value."""
        self.rows.append(Setting(key, f"{value}", "given" if is_given else "derived"))


def settle(chosen: ChosenSpec, base: Base, values: Values, rank: int | None = None) -> ChosenSpec:
    """Return a strategy's settings with every `auto` replaced by its number.

    Args:
        chosen: The settings.
        base: What is tuned.
        values: Notes each number and where it comes from.
        rank: LoRA's derived rank; where the data are not known, the least.
    """
    hidden = base.hidden_size
    match chosen:
        case LoraSpec():
            rank = values.choose("rank", chosen.rank, rank or rules.rank(hidden))
            alpha = rules.alpha(rank, is_rslora=chosen.rslora)
            alpha = values.choose("alpha", chosen.alpha, alpha)
            return chosen.model_copy(update={"rank": rank, "alpha": alpha})
        case PrefixSpec():
            tokens = values.choose("tokens", chosen.tokens, rules.prefix_tokens(base.max_length))
            return chosen.model_copy(update={"tokens": tokens})
        case BottleneckSpec():
            size = values.choose("size", chosen.size, rules.bottleneck_size(hidden))
            return chosen.model_copy(update={"size": size})
        case FullSpec():
            return chosen


def quantization_of(settled: ChosenSpec) -> Quantization | None:
    """Return how a strategy wants its base to be kept."""
    return "nf4" if settled.name == "qlora" else None


def build(settled: ChosenSpec, start: Sequence[int] = ()) -> Strategy:
    """Return the strategy that settings describe.

    Args:
        settled: What `settle` returned.
        start: Token ids of real text, where a learned prefix begins.
    """
    from tunefork import strategies

    given = settled.model_dump(exclude={"name", "text", "scale", "start"})
    match settled:
        case FullSpec():
            return strategies.Full()
        case LoraSpec():
            kind = strategies.Qlora if settled.name == "qlora" else strategies.Lora
            return kind(strategies.LoraSettings(**given))
        case PrefixSpec():
            return strategies.Prefix(strategies.PrefixSettings(**given), start=start or None)
        case BottleneckSpec():
            return strategies.Bottleneck(strategies.BottleneckSettings(**given))
