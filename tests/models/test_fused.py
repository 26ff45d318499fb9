"""Fused parts compute what the parts they replace compute, gradients included."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers.models.llama import modeling_llama

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.models import PackedLayout, collate, compile_kernels, loss_on, losses_on, run_on
from tunefork.models.fused.attention import rotate
from tunefork.models.fused.head import weighted_cross_entropy
from tunefork.models.fused.kernels import interpret_kernels
from tunefork.models.fused.mlp import swiglu
from tunefork.models.fused.norm import rms_norm

SHAPES = [(1, 8), (7, 33), (2, 3, 64)]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}
DTYPES = list(TOLERANCE)


@pytest.fixture(params=["step by step", "compiled"])
def _kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "compiled":
        reason = compile_kernels()
        if reason:
            pytest.skip(reason)
    yield
    interpret_kernels()


def _agree(
    fast: Callable[..., torch.Tensor],
    slow: Callable[..., torch.Tensor],
    inputs: list[torch.Tensor],
    dtype: torch.dtype,
) -> None:
    """Compare values and gradients with the reference computed in float64."""
    short = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    exact = [tensor.detach().double().requires_grad_() for tensor in short]
    found, wanted = fast(*short), slow(*exact)
    gradient = torch.randn(wanted.shape)
    assert found.dtype == (torch.float32 if found.ndim == 0 else dtype)
    pairs = zip(
        (found, *torch.autograd.grad(found, short, gradient.to(found.dtype))),
        (wanted, *torch.autograd.grad(wanted, exact, gradient.to(found.dtype).double())),
        strict=True,
    )
    for one, other in pairs:
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(
            one.double(), other, atol=TOLERANCE[dtype] * scale, rtol=TOLERANCE[dtype]
        )


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    def slow(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, (shape[-1],), gain, 1e-5)

    inputs = [torch.randn(shape) * 3, torch.rand(shape[-1]) + 0.5]
    _agree(lambda x, gain: rms_norm(x, gain, 1e-5), slow, inputs, dtype)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = [torch.randn(shape) * 2, torch.randn(shape)]
    _agree(swiglu, lambda gate, up: functional.silu(gate) * up, inputs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("_kernels")
def test_rotation(dtype: torch.dtype) -> None:
    angles = torch.rand(5, 8).repeat(1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def slow(x: torch.Tensor) -> torch.Tensor:
        turned, _ = modeling_llama.apply_rotary_pos_emb(
            x, x, cos.double(), sin.double(), unsqueeze_dim=1
        )
        return turned  # type: ignore[no-any-return]

    _agree(lambda x: rotate(x, cos, sin), slow, [torch.randn(5, 3, 16)], dtype)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_head_and_cross_entropy(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CHUNK_BYTES", "_CHUNK_BYTES_TRAINED"):
        monkeypatch.setattr(f"tunefork.models.fused.head.{name}", 4 * 97 * chunk)
    targets, weights = torch.randint(0, 97, (15,)), torch.rand(15)

    def slow(hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        losses = functional.cross_entropy(hidden @ head.T, targets, reduction="none")
        return (losses * weights).sum()

    inputs = [torch.randn(15, 16), torch.randn(97, 16)]
    _agree(lambda h, w: weighted_cross_entropy(h, w, targets, weights), slow, inputs, dtype)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden = torch.randn(4, 8, requires_grad=True)
    loss = weighted_cross_entropy(
        hidden, torch.randn(9, 8), torch.randint(0, 9, (4,)), torch.ones(4)
    )
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert gradient.shape == hidden.shape


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_equals_that_of_whole_logits(name: str) -> None:
    model, batch = packed_model(name), collate(random_rows(5), range(5))
    expected = (losses_on(model, batch) * batch.weights).sum()
    torch.testing.assert_close(loss_on(model, batch), expected, atol=1e-4, rtol=1e-6)


def test_only_a_plain_head_is_fused() -> None:
    assert packed_model("llama").has_plain_head
    assert not packed_model("gemma2").has_plain_head  # it caps its logits


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral", "mixtral"])
def test_gradients_of_all_weights_equal_those_of_transformers(name: str) -> None:
    packed, plain = packed_model(name).requires_grad_(True), plain_model(name)
    assert type(packed.model.layers[0].self_attn).__name__ == "RotaryAttention"
    ids, lengths = torch.randint(0, VOCABULARY, (20,)), [11, 9]
    torch.autograd.backward(run_on(packed, ids, PackedLayout(lengths)).square().sum())
    for part in (ids[:11], ids[11:]):
        torch.autograd.backward(plain(part[None], use_cache=False).logits.square().sum())
    theirs: dict[str, Any] = dict(plain.named_parameters())
    ours = dict(packed.named_parameters())
    assert ours.keys() == theirs.keys()
    for parameter, weight in ours.items():
        expected = theirs[parameter].grad
        scale = float(expected.abs().max()) + 1e-6
        torch.testing.assert_close(weight.grad / scale, expected / scale, atol=2e-5, rtol=1e-4)


def test_without_a_compiler_everything_runs_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert compile_kernels() == "there is no C++ compiler"
    assert rms_norm(torch.ones(2, 4), torch.ones(4), 1e-5).shape == (2, 4)


def test_a_compiler_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such header\nmore")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("torch.compile", fail)
    assert compile_kernels() == "the compiler fails: no such header"
