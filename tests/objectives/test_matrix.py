"""Every objective trains with every strategy."""

from __future__ import annotations

import pytest

from tests.objectives.cases import CASES, Case, first_losses
from tests.strategies import cases as strategies


@pytest.mark.parametrize("strategy", [pytest.param(c, id=c.name) for c in strategies.CASES])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_two_steps_lower_the_loss(case: Case, strategy: strategies.Case) -> None:
    losses = first_losses(case, strategy, "cpu")
    assert losses[-1] < losses[0]
