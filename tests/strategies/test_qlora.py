"""LoRA beside a base in four bits: what it computes, keeps and saves, and what PEFT makes of it."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch.nn import functional

from tests.small import packed_model, plain_model, random_rows, save_tokenizer
from tests.strategies.cases import disturb, logits
from tunefork.core.errors import InternalError
from tunefork.models import Base, collate, find_base, hash_parameters, load_model
from tunefork.models.quantized import (
    FrozenWeight,
    dequantize_layers,
    quantize,
    quantized_layers,
)
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings, load_adapter
from tunefork.strategies.low_rank import LowRank, low_rank_linear
from tunefork.strategies.qlora import Qlora


def _layers(dtype: torch.dtype) -> list[LowRank]:
    """Return three layers over one input: two in four bits, one dense."""
    torch.manual_seed(1)
    weights: list[FrozenWeight] = [
        quantize(torch.randn(48, 64)),
        torch.randn(8, 64).to(dtype),
        quantize(torch.randn(16, 64)),
    ]
    return [
        LowRank(
            weight,
            torch.randn(weight.shape[0]).to(dtype) if rank > 1 else None,
            torch.randn(rank, 64, requires_grad=True),
            torch.randn(weight.shape[0], rank, requires_grad=True),
            scale,
        )
        for weight, rank, scale in zip(weights, (3, 1, 2), (0.5, 2.0, 1.5), strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 64), (3, 7, 64)])
def test_one_step_equals_its_steps_over_the_dense_weight(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    layers = _layers(dtype)
    x = torch.randn(shape).to(dtype).requires_grad_()
    found = low_rank_linear(x, x, layers)
    exact = x.detach().double().requires_grad_()
    trained = [(layer.down.detach().double(), layer.up.detach().double()) for layer in layers]
    for pair in trained:
        for part in pair:
            part.requires_grad_()
    wanted = []
    for layer, (down, up) in zip(layers, trained, strict=True):
        weight = layer.weight
        full = weight if isinstance(weight, torch.Tensor) else weight.dense(dtype)
        bias = None if layer.bias is None else layer.bias.double()
        low = functional.linear(functional.linear(exact, down), up)
        wanted.append(functional.linear(exact, full.double(), bias) + layer.scale * low)
    ours = torch.autograd.grad(
        [y.float().sin().sum() for y in found],
        [x, *(part for layer in layers for part in (layer.down, layer.up))],
    )
    theirs = torch.autograd.grad(
        [y.sin().sum() for y in wanted], [exact, *(part for pair in trained for part in pair)]
    )
    tolerance = 2e-5 if dtype == torch.float32 else 0.3  # the sine of large sums, in bf16
    for one, other in zip((*found, *ours), (*wanted, *theirs), strict=True):
        off = torch.linalg.vector_norm(one.double() - other) / torch.linalg.vector_norm(other)
        assert float(off.detach()) < tolerance


def test_no_dense_weight_is_kept_for_the_backward_pass() -> None:
    layers = _layers(torch.float32)
    kept: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        x = torch.randn(5, 64, requires_grad=True)
        low_rank_linear(x, x, [layers[0], layers[2]])
    assert {(48, 16), (16, 16)} <= {tuple(tensor.shape) for tensor in kept}
    assert all(tensor.numel() < 16 * 64 for tensor in kept)


def _base(folder: Path, name: str = "llama") -> Base:
    """Return a base whose files are bf16, which is what four bits are made of."""
    plain_model(name).bfloat16().save_pretrained(folder)
    save_tokenizer(folder)
    return find_base(str(folder))


def _tuned(base: Base, dtype: torch.dtype = torch.float32) -> tuple[Any, Qlora]:
    model = load_model(base, dtype=dtype, quantization="nf4")
    strategy = Qlora(LoraSettings(rank=4, alpha=6))
    strategy.attach(model, 1)
    disturb(strategy, model)
    return model, strategy


def test_a_base_that_is_not_in_four_bits_is_our_mistake() -> None:
    with pytest.raises(InternalError, match="not loaded in four bits"):
        Qlora().attach(packed_model("llama"), seed=0)


def test_frozen_covers_all_that_four_bits_are_read_from(tmp_path: Path) -> None:
    model, strategy = _tuned(_base(tmp_path))
    before = hash_parameters(strategy.frozen(model).items())
    layer = next(layer for _, layer in quantized_layers(model))
    for tensor in (layer.absmax, layer.nested_absmax, layer.offset, layer.packed.data):
        kept = tensor.clone()
        tensor += 1
        assert hash_parameters(strategy.frozen(model).items()) != before
        tensor.copy_(kept)
    assert hash_parameters(strategy.frozen(model).items()) == before


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_its_folder_is_that_of_a_lora(name: str, tmp_path: Path) -> None:
    base = _base(tmp_path / "base", name)
    model, strategy = _tuned(base)
    (tmp_path / "adapter").mkdir()
    strategy.save(model, tmp_path / "adapter", base)
    again = load_model(base, dtype=torch.float32, quantization="nf4")
    load_adapter(again, tmp_path / "adapter")
    assert torch.equal(logits(again), logits(model))
    dense = load_model(base, dtype=torch.float32, quantization="nf4")
    dequantize_layers(dense)
    Lora.load(dense, tmp_path / "adapter")
    torch.testing.assert_close(logits(dense), logits(model))
    theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path / "adapter"))
    assert theirs.peft_config["default"].fan_in_fan_out == (name == "gpt2")


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_equals_unmerged(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base = _base(tmp_path, name)
    model, strategy = _tuned(base, dtype)
    expected = logits(model)
    strategy.merge(model)
    assert not list(quantized_layers(model))
    plain = load_model(base)
    assert [key for key, _ in model.named_parameters()] == [k for k, _ in plain.named_parameters()]
    off = torch.linalg.vector_norm(logits(model) - expected) / torch.linalg.vector_norm(expected)
    assert float(off) < (1e-5 if dtype == torch.float32 else 2e-2)


def test_peft_beside_linear4bit_computes_the_same(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=97, num_hidden_layers=2, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.save_pretrained(tmp_path / "base")
    base = find_base(str(tmp_path / "base"))
    model, strategy = _tuned(base)
    (tmp_path / "adapter").mkdir()
    strategy.save(model, tmp_path / "adapter", base)
    theirs = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=torch.float32,
            attn_implementation="eager",
            quantization_config=transformers.BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            ),
        ),
        str(tmp_path / "adapter"),
        is_trainable=True,
    ).train()
    rows = random_rows(1)
    ids, weights = (torch.tensor(part) for part in rows.row(0))
    labels = torch.where(weights > 0, ids.long(), -100)
    expected = theirs(ids[None].long(), labels=labels[None])
    torch.autograd.backward(expected.loss)
    loss = Sft().loss(model, collate(rows, [0]))
    torch.autograd.backward(loss.total / loss.weight)
    torch.testing.assert_close(logits(model, ids.long()), expected.logits[0], atol=1e-4, rtol=1e-4)
    ours = {key: parameter.grad for key, parameter in strategy.parameters(model).items()}
    found = {
        key.replace(".default", ""): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    assert found.keys() == ours.keys()
    for key, gradient in ours.items():
        torch.testing.assert_close(gradient, found[key], atol=1e-4, rtol=1e-3)
