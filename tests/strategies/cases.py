"""The strategies that the battery of properties is run over, and what they are run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.small import packed_model, random_rows
from tunefork.models import PackedLayout, collate, run_on
from tunefork.models.quantized import quantize_layers
from tunefork.objectives import Sft
from tunefork.strategies import (
    Bottleneck,
    Full,
    Lora,
    LoraSettings,
    Prefix,
    PrefixSettings,
    Qlora,
    Strategy,
)
from tunefork.training import TrainSettings
from tunefork.training.optimizer import MasterAdamW

ARCHITECTURES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt2",
    "gemma2",
    "gemma3",
    "phi3",
    "gpt_neox",
    "mixtral",  # a mixture of experts: attention targets only
)
IDS = torch.arange(4, 40)
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Case:
    """A strategy, and what the battery has to know of it besides what it declares itself."""

    name: str
    make: Callable[[str], Any]  # the architecture's name → a new strategy
    model: Callable[[str], Any] = packed_model  # likewise → a new base, the same each time
    is_known_to_peft: bool = True


def _lora(**settings: Any) -> Callable[[str], Strategy]:
    def make(architecture: str) -> Strategy:
        targets = _ATTENTION if architecture == "mixtral" else None
        return Lora(LoraSettings(rank=4, alpha=6, targets=targets, **settings))

    return make


def _qlora(architecture: str) -> Strategy:
    return Qlora(LoraSettings(rank=4, alpha=6))


def quantized_model(architecture: str) -> Any:
    """Return a small model in four bits."""
    model = packed_model(architecture)
    quantize_layers(model, torch.device("cpu"))
    return model


CASES = (
    Case("full", lambda _: Full(), is_known_to_peft=False),
    Case("lora", _lora()),
    Case(
        "lora-patterns",
        _lora(
            rslora=True,
            rank_pattern={r"\w+\.0\..*": 2},  # the first layer, whatever it is called
            alpha_pattern={r"\w+\.1\..*": 3.0},
        ),
    ),
    Case("dora", _lora(dora=True)),
    Case("qlora", _qlora, quantized_model, is_known_to_peft=False),
    Case("prefix", lambda _: Prefix(PrefixSettings(tokens=3)), is_known_to_peft=False),
    Case("bottleneck", lambda _: Bottleneck(), is_known_to_peft=False),
)


def logits(model: Any, ids: torch.Tensor = IDS, layout: PackedLayout | None = None) -> torch.Tensor:
    """Return the logits at each place of one row."""
    with torch.no_grad():
        return run_on(model, ids, layout or PackedLayout([len(ids)]))


def disturb(strategy: Strategy, model: Any, seed: int = 2) -> None:
    """Give a strategy an effect, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in strategy.parameters(model).values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise.to(parameter), alpha=0.05)


def trained(case: Case, architecture: str) -> tuple[Any, Any]:
    """Return a model and its strategy, which has an effect."""
    model, strategy = case.model(architecture), case.make(architecture)
    strategy.attach(model, 1)
    disturb(strategy, model)
    return model, strategy


SETTINGS = TrainSettings(epochs=1, learning_rate=1e-2, batch_tokens=1, weight_decay=0.1)


def optimizer_for(strategy: Strategy, model: Any) -> MasterAdamW:
    """Return an optimizer over what a strategy trains."""
    return MasterAdamW(strategy.parameters(model), SETTINGS, strategy.rate_factors(model))


def train_steps(model: Any, optimizer: MasterAdamW, first: int, count: int) -> None:
    """Take some steps, each on rows of its own."""
    for step in range(first, first + count):
        batch = collate(random_rows(4, seed=step), range(4))
        torch.autograd.backward(Sft().loss(model, batch).total / len(batch.targets))
        optimizer.collect()
        optimizer.step(SETTINGS.learning_rate)
