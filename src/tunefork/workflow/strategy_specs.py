"""How a spec chooses a strategy, and its settings; what is left out is derived (see `derive`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tunefork.workflow.spec_part import Auto, Part, by_name


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"holds `{pattern}`, which is no regular expression: {error}") from error
    return pattern


_Rank = Annotated[int, Field(ge=1, le=4096)]
_Pattern = Annotated[str, AfterValidator(_check_pattern)]


class AutoSpec(Part):
    """The strategy that fits."""

    name: Literal["auto"]


class FullSpec(Part):
    """Full fine-tuning."""

    name: Literal["full"]


class LoraSpec(Part):
    """LoRA and its relatives, rsLoRA, DoRA and LoRA+; `qlora` keeps the base in 4 bits."""

    name: Literal["lora", "qlora"]
    rank: _Rank | Auto = "auto"
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | None = None  # ends of module names; null: all linear layers
    # Regular expressions over ends of module names: ranks and alphas of their own.
    rank_pattern: dict[_Pattern, _Rank] = Field(default_factory=dict)
    alpha_pattern: dict[_Pattern, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    rslora: bool = False  # scale alpha / sqrt(rank)
    dora: bool = False  # direction and magnitude apart
    plus_ratio: Annotated[float, Field(gt=0)] = 1.0  # learning rate of B over that of A
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0  # how much of what is learned is kept
    # Where A begins: along the gradient of some rows, or at random, as with rewards and labels.
    start: Literal["gradient", "random"] = "gradient"


class PrefixSpec(Part):
    """Prefix tuning: learned keys and values before every document."""

    name: Literal["prefix"]
    tokens: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    # Width of a hidden layer that makes them while they are trained; null trains them as they are.
    projection: Annotated[int, Field(ge=1, le=65536)] | None = None
    text: str | None = None  # what they begin as the states of; null: the data's first rows


class BottleneckSpec(Part):
    """Bottleneck adapters: a small network behind attention and the feed-forward part."""

    name: Literal["bottleneck"]
    size: Annotated[int, Field(ge=1, le=65536)] | Auto = "auto"
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"  # pfeiffer: the feed-forward part alone
    activation: Literal["gelu", "relu", "silu", "tanh"] = "gelu"


ChosenSpec = FullSpec | LoraSpec | PrefixSpec | BottleneckSpec
StrategySpec = Annotated[AutoSpec | ChosenSpec, Field(discriminator="name"), by_name]
