"""DoRA in one step equals the paper's formula, step by step."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tunefork.strategies.dora import DoraChange


def _slow(
    x: torch.Tensor, layer: nn.Linear, change: DoraChange, parts: list[torch.Tensor]
) -> torch.Tensor:
    down, up, magnitude = parts
    weight = layer.weight.double() + change.scale * (up @ down)
    norms = torch.linalg.norm(weight, dim=1, keepdim=True).detach()
    bias = None if layer.bias is None else layer.bias.double()
    return functional.linear(x, magnitude[:, None] * weight / norms, bias)


def _layer(dtype: torch.dtype, *, bias: bool) -> tuple[nn.Linear, DoraChange]:
    torch.manual_seed(0)
    layer = nn.Linear(33, 11, bias=bias).to(dtype).requires_grad_(False)
    change = DoraChange(layer, rank=3, scale=0.5, dropout=0.0)
    change.lora_A.data.normal_(0, 0.3)
    change.lora_B.data.normal_(0, 0.3)
    change.magnitude.data.add_(torch.randn(11) * 0.3)
    return layer, change


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 33), (3, 7, 33)])
def test_equals_its_formula(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    layer, change = _layer(dtype, bias=bias)
    x = torch.randn(shape).to(dtype).requires_grad_()
    trained = [change.lora_A, change.lora_B, change.magnitude]
    found = change(layer, x)
    exact = [part.detach().double().requires_grad_() for part in (x, *trained)]
    wanted = _slow(exact[0], layer, change, exact[1:])
    gradient = torch.randn(found.shape).to(dtype)
    pairs = zip(
        (found, *torch.autograd.grad(found, (x, *trained), gradient)),
        (wanted, *torch.autograd.grad(wanted, exact, gradient.double())),
        strict=True,
    )
    tolerance = 3e-6 if dtype == torch.float32 else 3e-2
    for one, other in pairs:
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one.double(), other, atol=tolerance * scale, rtol=tolerance)


def test_norms_are_those_of_the_changed_weight_and_follow_it() -> None:
    layer, change = _layer(torch.float32, bias=False)
    x = torch.randn(2, 33)
    with torch.no_grad():
        for factor in (1.0, 3.0):
            change.lora_B.mul_(factor)
            weight = layer.weight + change.scale * (change.lora_B @ change.lora_A)
            expected = torch.linalg.norm(weight, dim=1)
            torch.testing.assert_close(change.norms(layer), expected, atol=1e-5, rtol=1e-5)
            found = change(layer, x)  # with what is kept from token to token
            wanted = functional.linear(x, weight * (change.magnitude / expected)[:, None])
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_nothing_of_the_weights_size_is_kept() -> None:
    layer, change = _layer(torch.float32, bias=True)
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        change(layer, torch.randn(2, 33))
    del kept[layer.weight.data_ptr()]
    assert kept
    assert max(kept.values()) < layer.weight.numel()


def test_dropout_reaches_the_change_only() -> None:
    layer, change = _layer(torch.float32, bias=True)
    change.dropout = 0.5
    x = torch.randn(4, 33)
    change.eval()
    still = change(layer, x)
    assert torch.equal(still, change(layer, x))
    change.train()
    assert not torch.equal(still, change(layer, x))
    change.lora_B.data.zero_()
    torch.testing.assert_close(change(layer, x), change.eval()(layer, x))
