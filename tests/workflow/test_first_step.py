"""Before a run's first step LoRA looks where to begin, if it may and there is something to ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.small import packed_model, random_rows
from tests.training.small_run import SETTINGS
from tunefork.core.events import Event, Progress
from tunefork.data import Items
from tunefork.models import hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Strategy
from tunefork.training import TrainingData, TrainStep
from tunefork.workflow.first_step import before_first_step
from tunefork.workflow.settle import build
from tunefork.workflow.strategy_specs import BottleneckSpec, ChosenSpec, LoraSpec

DATA = TrainingData(random_rows(20))
LORA = LoraSpec(name="lora", rank=4, alpha=8)


class _Draws:
    """Answers that are yet to be drawn; only how long they may be is known."""

    def longest(self, n_tokens: int) -> Items:
        return Items.of(random_rows(3))


def _begun(
    chosen: ChosenSpec, data: TrainingData, head: torch.nn.Module | None = None
) -> tuple[bool, list[Event]]:
    """Say whether anything that is trained changed; no gradient may be left, and no step taken."""
    model, strategy, seen = packed_model("llama"), build(chosen), list[Event]()
    strategy.attach(model, 3)
    frozen, before = _hashes(strategy, model)
    module = TrainStep(model, Sft(), SETTINGS, head)
    found = before_first_step(module, chosen, strategy, data, SETTINGS, seen.append)
    assert found == SETTINGS
    assert all(parameter.grad is None for parameter in module.parameters())
    still, after = _hashes(strategy, model)
    assert still == frozen
    return after != before, seen


def _hashes(strategy: Strategy, model: Any) -> tuple[str, str]:
    trained = hash_parameters(strategy.parameters(model).items())
    return hash_parameters(strategy.frozen(model).items()), trained


@pytest.mark.parametrize("more", [{}, {"dora": True}, {"dropout": 0.1}, {"rslora": True}])
def test_lora_begins_along_the_gradient(more: dict[str, Any]) -> None:
    chosen = LoraSpec(name="lora", rank=4, alpha=8, **more)
    changed, seen = _begun(chosen, DATA)
    assert changed
    assert [event for event in seen if isinstance(event, Progress)]


@pytest.mark.parametrize(
    ("chosen", "data", "head"),
    [
        (LoraSpec(name="lora", rank=4, alpha=8, start="random"), DATA, None),
        (LORA, replace(DATA, rollouts=_Draws()), None),  # type: ignore[arg-type]
        (LORA, DATA, torch.nn.Linear(2, 2)),
        (BottleneckSpec(name="bottleneck", size=4), DATA, None),
    ],
    ids=["asked for", "rewards", "a new head", "another strategy"],
)
def test_else_nothing_changes(
    chosen: ChosenSpec, data: TrainingData, head: torch.nn.Module | None
) -> None:
    assert _begun(chosen, data, head) == (False, [])
