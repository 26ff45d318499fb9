"""A linear layer with its low-rank change in one step equals the steps one by one."""

import pytest
import torch
from torch.nn import functional

from tunefork.strategies.low_rank import LowRank, low_rank_linear


def _slow(
    x: torch.Tensor,
    dropped: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    change = functional.linear(functional.linear(dropped, down), up)
    return functional.linear(x, weight, bias) + scale * change


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_dropped", [False, True])
@pytest.mark.parametrize("shape", [(1, 5), (3, 7, 33)])
def test_equals_its_steps(
    shape: tuple[int, ...], is_dropped: bool, has_bias: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    n_in, n_out, rank = shape[-1], 11, 3
    x = torch.randn(shape).to(dtype).requires_grad_()
    weight = torch.randn(n_out, n_in).to(dtype)
    bias = torch.randn(n_out).to(dtype) if has_bias else None
    down, up = (
        torch.randn(rank, n_in, requires_grad=True),
        torch.randn(n_out, rank, requires_grad=True),
    )
    mask = (torch.rand(shape) > 0.3).to(dtype) / 0.7
    layer = LowRank(weight, bias, down, up, 0.5)
    (found,) = low_rank_linear(x, x * mask if is_dropped else x, [layer])
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, down, up)]
    seen = exact[0] * mask.double() if is_dropped else exact[0]
    wanted = _slow(
        exact[0],
        seen,
        weight.double(),
        None if bias is None else bias.double(),
        exact[1],
        exact[2],
        0.5,
    )
    gradient = torch.randn(found.shape).to(dtype)
    pairs = zip(
        (found, *torch.autograd.grad(found, (x, down, up), gradient)),
        (wanted, *torch.autograd.grad(wanted, exact, gradient.double())),
        strict=True,
    )
    tolerance = 2e-6 if dtype == torch.float32 else 3e-2
    for one, other in pairs:
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one.double(), other, atol=tolerance * scale, rtol=tolerance)


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    down, up = torch.randn(2, 5, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    x = torch.randn(3, 5)
    (y,) = low_rank_linear(x, x, [LowRank(torch.randn(4, 5), None, down, up, 1.0)])
    torch.autograd.backward(y.sum())
    assert x.grad is None
    assert down.grad is not None
    assert up.grad is not None


def test_layers_together_equal_each_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 7, requires_grad=True)
    layers = [
        LowRank(
            torch.randn(n_out, 7),
            torch.randn(n_out) if rank > 1 else None,
            torch.randn(rank, 7, requires_grad=True),
            torch.randn(n_out, rank, requires_grad=True),
            scale,
        )
        for n_out, rank, scale in ((5, 3, 0.5), (9, 1, 2.0), (4, 2, 1.5))
    ]
    weights = [x, *(part for layer in layers for part in (layer.down, layer.up))]
    together = low_rank_linear(x, x, layers)
    alone = [low_rank_linear(x, x, [layer])[0] for layer in layers]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
    found = torch.autograd.grad([y.sin().sum() for y in together], weights)
    wanted = torch.autograd.grad([y.sin().sum() for y in alone], weights)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
