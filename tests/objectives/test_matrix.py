"""Every objective trains with every strategy."""

from __future__ import annotations

import pytest
import torch

from tests.objectives.cases import CASES, Case
from tests.strategies import cases as strategies
from tunefork.models import collate


@pytest.mark.parametrize("strategy", [pytest.param(c, id=c.name) for c in strategies.CASES])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_two_steps_lower_the_loss(case: Case, strategy: strategies.Case) -> None:
    model = strategy.model("llama")
    items = case.items(4, model=strategy.model("llama"))
    method = strategy.make("llama")
    method.attach(model, 1)
    optimizer = strategies.optimizer_for(method, model)
    batch = collate(items, range(4))
    losses = []
    for _ in range(3):
        loss = case.objective.loss(model, batch)
        losses.append(loss.total.item())
        torch.autograd.backward(loss.total / loss.weight)
        optimizer.collect()
        optimizer.step(case.learning_rate)
    assert losses[-1] < losses[0]
