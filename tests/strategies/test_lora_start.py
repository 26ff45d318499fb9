"""LoRA begins along the gradient of the base's own weights, which is never computed for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from tests.small import packed_model, plain_model, random_rows
from tests.strategies.cases import logits, quantized_model
from tunefork.data import TokenRows
from tunefork.models import collate, hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings, Qlora, start_along_gradient

RANK = 4
ROWS = random_rows(6)


def _started(model: Any, strategy: Lora, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Start on the sample rows, and return what A was at random, by the layer's name."""
    strategy.attach(model, 1)
    changes = strategy.changes(model)
    random = {name: change.lora_A.detach().clone() for name, change in changes.items()}
    start_along_gradient(strategy, model, partial(_backward, model, ROWS, scale))
    return random


def _backward(model: Any, rows: TokenRows, scale: float = 1.0) -> None:
    loss = Sft().loss(model, collate(rows, range(len(rows))))
    torch.autograd.backward(loss.total * scale)


def _weight_gradients(name: str) -> dict[str, torch.Tensor]:
    """Return what transformers and autograd find, one row at a time: (out, in) by layer."""
    model = plain_model(name)
    for at in range(len(ROWS)):
        ids, weights = (torch.tensor(part) for part in ROWS.row(at))
        said = torch.log_softmax(model(ids[None].long()).logits[0, :-1], dim=1)
        chosen = said.gather(1, ids[1:, None].long())[:, 0]
        torch.autograd.backward(-(chosen * weights[1:]).sum())
    return {
        layer: module.weight.grad.T if isinstance(module, Conv1D) else module.weight.grad
        for layer, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module.weight.grad is not None
    }


def _kept(gradient: torch.Tensor, rows: torch.Tensor) -> float:
    """Return the part of a gradient's square that moves along some directions of the input."""
    basis = torch.linalg.qr(rows.T).Q
    return float((gradient @ basis).square().sum() / gradient.square().sum())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "phi3"])
def test_it_keeps_most_of_what_the_best_directions_keep(name: str) -> None:
    model, strategy = packed_model(name), Lora(LoraSettings(rank=RANK))
    random = _started(model, strategy)
    gradients = _weight_gradients(name)
    found, at_random = [], []
    for layer, change in strategy.changes(model).items():
        gradient = gradients[layer]
        best = _kept(gradient, torch.linalg.svd(gradient).Vh[:RANK])
        found.append(_kept(gradient, change.lora_A.detach()) / best)
        at_random.append(_kept(gradient, random[layer]) / best)
    assert min(found) > 0.6
    assert sum(found) / len(found) > 0.8
    assert sum(at_random) / len(at_random) < 0.4


@pytest.mark.parametrize("kind", ["lora", "dora", "qlora"])
def test_nothing_changes_but_where_a_points(kind: str) -> None:
    model = quantized_model("llama") if kind == "qlora" else packed_model("llama")
    expected = logits(model)
    make = Qlora if kind == "qlora" else Lora
    strategy = make(LoraSettings(rank=RANK, dora=kind == "dora"))
    random = _started(model, strategy)
    assert torch.equal(logits(model), expected)
    for layer, change in strategy.changes(model).items():
        a, before = change.lora_A.detach(), random[layer]
        assert not torch.allclose(a, before)
        assert float(a.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
        torch.testing.assert_close(a @ a.T, torch.eye(RANK) * a.norm() ** 2 / RANK)
        assert not change.lora_B.any()


def test_directions_that_the_gradient_lacks_stay_random() -> None:
    one = random_rows(1, longest=4)  # as few places that are learned from as there can be
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=RANK, targets=("down_proj",)))
    strategy.attach(model, 1)
    n_places = int((one.weights > 0).sum())
    assert n_places < RANK
    backward = partial(_backward, model, one)
    start_along_gradient(strategy, model, backward)
    last = strategy.changes(model)["model.layers.1.mlp.down_proj"].lora_A.detach()
    torch.testing.assert_close(last @ last.T, torch.eye(RANK) * last.norm() ** 2 / RANK)
    backward()
    change = strategy.changes(model)["model.layers.1.mlp.down_proj"]
    assert change.lora_B.grad is not None
    moved = change.lora_B.grad.norm(dim=0)
    assert (moved > 1e-4 * moved.max()).sum() == n_places


def test_it_is_the_same_each_time() -> None:
    found = []
    for _ in range(2):
        model, strategy = packed_model("llama"), Lora(LoraSettings(rank=RANK))
        _started(model, strategy)
        found.append(hash_parameters(strategy.parameters(model).items()))
    assert found[0] == found[1]


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_without_a_usable_gradient_a_stays_random(factor: float) -> None:
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=RANK))
    random = _started(model, strategy, factor)
    for layer, change in strategy.changes(model).items():
        assert torch.equal(change.lora_A, random[layer])
        assert not change.lora_B.any()


def test_a_rank_that_is_larger_than_a_layer_stays_random() -> None:
    model = packed_model("llama")
    strategy = Lora(LoraSettings(rank=RANK, rank_pattern={"k_proj": 24, "q_proj": 40}))
    random = _started(model, strategy)
    for layer, change in strategy.changes(model).items():
        is_large = layer.endswith(("k_proj", "q_proj"))  # (16, 32) and (32, 32)
        assert torch.equal(change.lora_A, random[layer]) == is_large
        assert not change.lora_B.any()
