"""Losses of learning from rewards against their formulas, written out token by token."""

from __future__ import annotations

import math

import pytest
import torch

from tests.objectives.record_trl import formula
from tunefork.objectives.policy_losses import (
    divergences,
    general_advantages,
    group_advantages,
    next_coefficient,
    policy_losses,
    value_losses,
)


def _numbers(count: int, phase: float, scale: float = 1.0) -> torch.Tensor:
    return scale * formula((count,), phase)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28), (0.1, 0.5)])
def test_the_clipped_objective_is_the_formula(low: float, high: float) -> None:
    new, old = _numbers(40, 0.1).requires_grad_(True), _numbers(40, 0.13)
    advantages = _numbers(40, 0.5, 2.0)
    found, is_cut = policy_losses(new, old, advantages, clip_low=low, clip_high=high)
    (slope,) = torch.autograd.grad(found.sum(), new)
    for at in range(40):
        ratio, gain = math.exp(new[at].item() - old[at].item()), advantages[at].item()
        near = min(max(ratio, 1 - low), 1 + high)
        assert found[at].item() == pytest.approx(-min(ratio * gain, near * gain))
        wants_on = ratio * gain <= near * gain
        assert slope[at].item() == pytest.approx(-ratio * gain if wants_on else 0.0)
        assert is_cut[at].item() == (not wants_on)
    assert 0 < is_cut.mean() < 1


def test_on_the_drawing_policy_the_gradient_is_that_of_reinforce() -> None:
    new = _numbers(12, 0.3).requires_grad_(True)
    advantages = _numbers(12, 0.9)
    losses, is_cut = policy_losses(new, new.detach(), advantages, clip_low=0.2, clip_high=0.2)
    (slope,) = torch.autograd.grad(losses.sum(), new)
    torch.testing.assert_close(slope, -advantages)
    assert not is_cut.any()


def test_the_divergence_estimate_is_unbiased_and_never_negative() -> None:
    policy = torch.softmax(_numbers(9, 0.2, 2.0), dim=0)
    base = torch.softmax(_numbers(9, 0.8, 2.0), dim=0)
    found = divergences(policy.log(), base.log())
    assert (found >= 0).all()
    exact = (policy * (policy / base).log()).sum()
    torch.testing.assert_close((policy * found).sum(), exact)


@pytest.mark.parametrize("divides", [True, False])
def test_group_advantages_compare_answers_with_each_other(divides: bool) -> None:
    rewards = torch.tensor([1.0, 0.0, 0.5, 1.0])
    mean = 0.625
    spread = math.sqrt(sum((r - mean) ** 2 for r in rewards.tolist()) / 3) + 1e-4
    expected = [(r - mean) / (spread if divides else 1.0) for r in rewards.tolist()]
    assert group_advantages(rewards, divides=divides).tolist() == pytest.approx(expected, abs=1e-6)
    assert group_advantages(torch.ones(4), divides=divides).tolist() == [0.0] * 4


@pytest.mark.parametrize(("discount", "trace"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.7, 0.0)])
def test_general_advantages_are_the_sum_of_what_surprised(discount: float, trace: float) -> None:
    rewards, values = _numbers(7, 0.4), _numbers(7, 0.6)
    after = [*values.tolist()[1:], 0.0]
    surprises = [
        r + discount * b - v
        for r, b, v in zip(rewards.tolist(), after, values.tolist(), strict=True)
    ]
    expected = [
        sum((discount * trace) ** k * surprises[t + k] for k in range(7 - t)) for t in range(7)
    ]
    found = general_advantages(rewards, values, discount=discount, trace=trace)
    assert found.tolist() == pytest.approx(expected)


def test_with_full_trace_values_only_shift_what_is_earned() -> None:
    rewards, values = _numbers(5, 0.1), _numbers(5, 0.2)
    found = general_advantages(rewards, values, discount=1.0, trace=1.0) + values
    assert found.tolist() == pytest.approx(rewards.flip(0).cumsum(0).flip(0).tolist())


def test_value_losses_take_the_worse_of_both() -> None:
    values, old, returns = (_numbers(30, phase) for phase in (0.1, 0.2, 0.3))
    for at, found in enumerate(value_losses(values, old, returns, clip=0.2).tolist()):
        v, o, g = values[at].item(), old[at].item(), returns[at].item()
        near = min(max(v, o - 0.2), o + 0.2)
        assert found == pytest.approx(max((v - g) ** 2, (near - g) ** 2) / 2)


def test_the_coefficient_follows_the_divergence_and_settles_on_the_target() -> None:
    assert next_coefficient(0.1, 6.0, 6.0) == pytest.approx(0.1)
    assert next_coefficient(0.1, 60.0, 6.0) == pytest.approx(0.102)
    assert next_coefficient(0.1, 0.0, 6.0) == pytest.approx(0.098)
    coefficient = 0.01
    for _ in range(2000):  # a policy whose divergence falls as it costs more
        coefficient = next_coefficient(coefficient, 1.5 / coefficient, 6.0)
    assert 1.5 / coefficient == pytest.approx(6.0, rel=0.01)
