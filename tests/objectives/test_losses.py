"""Each loss against its formula, written out in plain Python on one pair at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunefork.objectives.losses import (
    dpo_losses,
    ipo_losses,
    kto_divergence,
    kto_losses,
    orpo_losses,
    simpo_losses,
)

_LOG = st.floats(-30, -0.01)  # log-probabilities
_RATIO = st.floats(-12, 12)


def _sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _dpo(margin: float, beta: float, smoothing: float) -> float:
    right, wrong = math.log(_sigma(beta * margin)), math.log(_sigma(-beta * margin))
    return -(1 - smoothing) * right - smoothing * wrong


def _kto(ratio: float, is_good: bool, kl: float, beta: float) -> float:
    if is_good:
        return 1.3 * (1 - _sigma(beta * (ratio - kl)))
    return 0.7 * (1 - _sigma(beta * (kl - ratio)))


def _orpo(chosen: float, rejected: float, weight: float) -> float:
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (chosen, rejected)]
    return -chosen - weight * math.log(_sigma(math.log(odds[0] / odds[1])))


def _agree(fast: Callable[..., torch.Tensor], slow: Callable[..., float], *values: float) -> None:
    """Compare the value, and the gradient with one by small differences."""
    given = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values]
    found = fast(*given)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(slow(*values), rel=1e-9, abs=1e-9)
    gradients = torch.autograd.grad(found.sum(), given)
    for at, gradient in enumerate(gradients):
        step = 1e-6
        up, down = (
            slow(
                *(
                    value + (sign * step if at == number else 0)
                    for number, value in enumerate(values)
                )
            )
            for sign in (1, -1)
        )
        assert gradient.item() == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


@given(_RATIO, st.floats(0.01, 2), st.floats(0, 0.49))
def test_dpo(margin: float, beta: float, smoothing: float) -> None:
    _agree(
        lambda m: dpo_losses(m, beta=beta, label_smoothing=smoothing),
        lambda m: _dpo(m, beta, smoothing),
        margin,
    )


@given(_RATIO, st.floats(0.01, 2))
def test_ipo(margin: float, beta: float) -> None:
    _agree(lambda m: ipo_losses(m, beta=beta), lambda m: (m - 1 / (2 * beta)) ** 2, margin)


@given(_RATIO, st.booleans(), st.floats(0, 5), st.floats(0.01, 2))
def test_kto(ratio: float, is_good: bool, kl: float, beta: float) -> None:
    _agree(
        lambda r: kto_losses(
            r,
            torch.tensor([float(is_good)], dtype=torch.float64),
            torch.tensor(kl, dtype=torch.float64),
            beta=beta,
            good_weight=1.3,
            bad_weight=0.7,
        ),
        lambda r: _kto(r, is_good, kl, beta),
        ratio,
    )


def test_the_divergence_of_kto_is_never_below_nothing_and_teaches_nothing() -> None:
    ratios = torch.tensor([1.0, -4.0, 2.0], requires_grad=True)
    assert kto_divergence(ratios) == 0
    found = kto_divergence(ratios + 2)
    assert found.item() == pytest.approx(5 / 3)
    assert not found.requires_grad


@given(_LOG, _LOG, st.floats(0.01, 3))
def test_orpo(chosen: float, rejected: float, weight: float) -> None:
    _agree(
        lambda c, r: orpo_losses(c, r, weight=weight),
        lambda c, r: _orpo(c, r, weight),
        chosen,
        rejected,
    )


@given(_LOG, _LOG, st.floats(0.5, 3), st.floats(0, 3))
def test_simpo(chosen: float, rejected: float, beta: float, margin: float) -> None:
    _agree(
        lambda c, r: simpo_losses(c, r, beta=beta, margin=margin),
        lambda c, r: -math.log(_sigma(beta * c - beta * r - margin)),
        chosen,
        rejected,
    )


@pytest.mark.parametrize("mean", [0.0, -1e-12, -300.0])
def test_odds_are_finite_for_answers_that_are_certain_or_impossible(mean: float) -> None:
    chosen = torch.tensor([mean, -1.0], requires_grad=True)
    rejected = torch.tensor([-1.0, mean], requires_grad=True)
    found = orpo_losses(chosen, rejected, weight=0.1).sum()
    gradients = torch.autograd.grad(found, [chosen, rejected])
    assert math.isfinite(found.item())
    assert all(gradient.isfinite().all() for gradient in gradients)
