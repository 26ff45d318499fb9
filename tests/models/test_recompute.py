"""What is cheap to compute again is not kept, and gradients stay the same bits."""

import gc
import weakref

import pytest
import torch
from torch.nn import functional

from tests.small import CONFIGS, packed_model, random_rows
from tunefork.models import collate
from tunefork.models.fused.recompute import computed_again, kept_as_usual
from tunefork.models.memory import activation_bytes_per_token
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import TrainSettings, TrainStep


def _layer(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, weakref.ref[torch.Tensor]]:
    middle = x.detach().sin()
    with computed_again(middle, lambda: x.detach().sin()):
        # Two layers keep it, one of them under another shape.
        y = functional.linear(middle, weight) + functional.linear(middle.view(-1, 4), weight)
    return y, weakref.ref(middle)


def test_a_result_is_let_go_and_computed_again() -> None:
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    y, kept = _layer(x, weight)
    gc.collect()
    assert kept() is None
    (found,) = torch.autograd.grad(y.sum(), weight)
    with kept_as_usual():
        y, kept = _layer(x, weight)
    gc.collect()
    assert kept() is not None
    assert torch.equal(found, torch.autograd.grad(y.sum(), weight)[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_recomputing_whole_layers_changes_no_bit(name: str) -> None:
    batch = collate(random_rows(6), range(6))
    gradients = []
    for recompute in (False, True):
        model, strategy = packed_model(name), Lora(LoraSettings(rank=2))
        strategy.attach(model, seed=0)
        weights = list(strategy.parameters(model).values())
        generator = torch.Generator().manual_seed(0)
        for weight in weights:
            weight.data.normal_(0, 0.1, generator=generator)
        settings = TrainSettings(epochs=1, learning_rate=1e-3, batch_tokens=1, recompute=recompute)
        step = TrainStep(model, Sft(), settings).train()
        gradients.append(torch.autograd.grad(step(batch).total, weights))
    assert all(map(torch.equal, *gradients))


def test_the_arithmetic_of_activations_is_about_right() -> None:
    model, rows = packed_model("llama"), random_rows(40, longest=60)
    strategy = Lora(LoraSettings(rank=2))
    strategy.attach(model, seed=0)
    batch, kept = collate(rows, range(40)), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        kept_as_usual(),  # or what is computed again would be hidden
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = Sft().loss(model, batch)
    config = CONFIGS["llama"].to_dict()
    # Kept as usual, the two norms and the activation come on top of what is counted.
    on_top = config["num_hidden_layers"] * (2 * 32 + 48) * 4
    per_token = sum(kept.values()) / len(batch.ids)
    counted = activation_bytes_per_token(config, bytes_per_number=4) + on_top
    assert loss.total.requires_grad
    assert 0.2 < per_token / counted < 1.5  # a row here has 30 tokens, not the usual 192
