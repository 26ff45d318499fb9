"""Linear layers in four bits: what they compute, what they take, and what they leave alone."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.small import save_model
from tunefork.core.errors import ModelError
from tunefork.models import PackedLayout, find_base, hash_parameters, load_model, quantized, run_on
from tunefork.models.quantized import (
    QuantizedLinear,
    QuantizedWeight,
    dequantize_layers,
    quantize,
    quantize_layers,
    quantized_layers,
)

# Table 1 of the paper's appendix E: the quantiles of the normal distribution, scaled into [-1, 1].
_NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
SHAPES = [(64, 64), (3, 192), (1, 64), (48, 32), (100, 48), (16, 4)]


def _slow(weight: torch.Tensor) -> torch.Tensor:
    """Round each number to the nearest of the sixteen times its block's largest absolute value."""
    blocks = weight.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(_NF4).abs().argmin(-1)
    return (_NF4[nearest] * largest).view_as(weight)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_stands_for_the_nearest_of_sixteen_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape).bfloat16().float()
    found = quantize(weight)
    assert found.shape == weight.shape
    wanted = _slow(weight)
    # The blocks' largest values are rounded as well: to eight bits, by at most 2 % of their spread.
    spread = float(weight.reshape(-1, 64).abs().amax(1).max())
    assert float((found.dense(torch.float32) - wanted).abs().max()) <= 0.04 * spread
    error = (found.dense(torch.float32) - weight).norm() / weight.norm()
    assert float(error) < 0.13  # four bits lose about a tenth of normal numbers


@pytest.mark.parametrize("shape", [(64, 64), (1000, 192)])
def test_the_four_bits_are_those_of_bitsandbytes(shape: tuple[int, int]) -> None:
    functional_of = importlib.import_module("bitsandbytes.functional")
    torch.manual_seed(0)
    weight = torch.randn(shape).bfloat16()
    weight[0, :64] = 0
    found = quantize(weight)
    packed, state = functional_of.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    assert torch.equal(found.packed.view(torch.uint8).flatten(), packed.flatten())
    assert torch.equal(found.absmax, state.absmax)
    assert torch.equal(found.nested_absmax, state.state2.absmax)
    assert torch.equal(found.dense(torch.bfloat16), functional_of.dequantize_4bit(packed, state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_and_gradient_equal_those_of_the_dense_weight(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = quantize(torch.randn(48, 64))
    bias = nn.Parameter(torch.randn(48).to(dtype), requires_grad=False)
    layer = QuantizedLinear(weight, bias)
    x = torch.randn(2, 5, 64).to(dtype).requires_grad_()
    y = layer(x)
    wanted = functional.linear(x, weight.dense(dtype), bias)
    assert torch.equal(y, wanted)
    gradient = torch.randn(y.shape).to(dtype)
    found = torch.autograd.grad(y, x, gradient)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, x, gradient))


def test_only_four_bits_are_kept_for_the_backward_pass() -> None:
    layer = QuantizedLinear(quantize(torch.randn(64, 128)), None)
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(torch.randn(3, 128, requires_grad=True))
    assert 0 < sum(kept) < 0.28 * 2 * 64 * 128 + 8


def _load(name: str, folder: Path, **how: Any) -> Any:
    save_model(name, folder)
    return load_model(find_base(str(folder)), **how)


def test_a_tenth_of_a_percent_over_four_bits_and_only_inside_decoder_layers(
    tmp_path: Path,
) -> None:
    model = _load("llama", tmp_path, quantization="nf4", dtype=torch.float32)
    layers = dict(quantized_layers(model))
    assert len(layers) == 2 * 7
    assert all(".layers." in path for path in layers)
    taken = sum(t.nbytes for layer in layers.values() for t in (layer.packed, *layer.buffers()))
    dense = sum(2 * layer.in_features * layer.out_features for layer in layers.values())
    assert taken <= 0.28 * dense
    others = load_model(find_base(str(tmp_path)), dtype=torch.float32)
    assert torch.equal(model.get_input_embeddings().weight, others.get_input_embeddings().weight)
    assert torch.equal(model.base_model.norm.weight, others.base_model.norm.weight)
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "phi3", "gpt_neox", "mixtral"])
def test_a_loaded_base_computes_what_its_dequantized_weights_compute(
    name: str, tmp_path: Path
) -> None:
    ids = torch.arange(4, 30)

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return run_on(model, ids, PackedLayout([len(ids)]))

    model = _load(name, tmp_path, quantization="nf4", dtype=torch.float32)
    found = logits(model)
    exact = logits(load_model(find_base(str(tmp_path)), dtype=torch.float32))
    assert not torch.equal(found, exact)
    assert float((found - exact).norm() / exact.norm()) < 0.3
    dequantize_layers(model)
    assert not dict(quantized_layers(model))
    torch.testing.assert_close(logits(model), found)
    names = {key for key, _ in model.named_parameters()}
    plain = load_model(find_base(str(tmp_path)))
    assert names == {key for key, _ in plain.named_parameters()}
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }


def test_the_four_bits_do_not_depend_on_the_format_that_is_computed_in(tmp_path: Path) -> None:
    def packed(dtype: torch.dtype) -> str:
        model = load_model(base, dtype=dtype, quantization="nf4")
        return hash_parameters((path, layer.packed) for path, layer in quantized_layers(model))

    base = find_base(str(save_model("llama", tmp_path)))
    assert packed(torch.float32) == packed(torch.bfloat16)


def test_another_number_format_leaves_the_four_bits_alone() -> None:
    weight = quantize(torch.randn(64, 64))
    layer = QuantizedLinear(weight, nn.Parameter(torch.randn(64), requires_grad=False))
    before = layer.weight.dense(torch.float32)
    layer.to(torch.float16)
    assert torch.equal(layer.weight.dense(torch.float32), before)
    assert layer.bias is not None
    assert layer.bias.dtype == torch.float16
    assert [part.dtype for part in layer.weight] == [part.dtype for part in weight]
    assert QuantizedWeight._fields[0] == "packed"


def test_without_bitsandbytes_one_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quantized._bitsandbytes.cache_clear()
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(ModelError, match="needs `bitsandbytes`") as caught:
        quantize(torch.randn(64, 64))
    assert "tunefork[qlora]" in str(caught.value.hint)
    quantized._bitsandbytes.cache_clear()


def test_a_model_without_layers_to_quantize_is_refused(tmp_path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 6, "intermediate_size": 10, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=9, num_hidden_layers=1, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="no linear layers that could be kept in four bits"):
        quantize_layers(model, torch.device("cpu"))
