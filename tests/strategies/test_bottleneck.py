"""Bottleneck adapters compute the papers' formula, behind the sub-layers that the papers name."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.core.errors import ModelError
from tunefork.models import Base, PackedLayout, Segment, collate, hash_parameters, run_on
from tunefork.objectives import Sft
from tunefork.strategies.activations import ACTIVATIONS, Activation
from tunefork.strategies.bottleneck import Bottleneck, BottleneckSettings, find_sublayers
from tunefork.strategies.bottleneck_layer import bottleneck
from tunefork.training import TrainSettings, TrainStep

IDS = torch.arange(4, 40)
# Where attention and feed-forward part of the first layer stand, by family.
SUBLAYERS = {
    "gpt2": ["transformer.h.0.attn", "transformer.h.0.mlp"],
    "gptj": ["transformer.h.0.attn", "transformer.h.0.mlp"],
    "gpt_neox": ["gpt_neox.layers.0.attention", "gpt_neox.layers.0.mlp"],
}
LLAMA_LIKE = ["model.layers.0.self_attn", "model.layers.0.mlp"]


def _logits(model: Any, ids: torch.Tensor = IDS, **segment: int) -> torch.Tensor:
    with torch.no_grad():
        return run_on(model, ids, PackedLayout([Segment(len(ids), **segment)]))


def _trained(name: str, **settings: Any) -> tuple[Any, Bottleneck]:
    """Return a model whose adapters have an effect."""
    model = packed_model(name)
    strategy = Bottleneck(BottleneckSettings(**{"size": 5, **settings}))
    strategy.attach(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in strategy.parameters(model).values():
        parameter.data.normal_(0, 0.2, generator=generator)
    return model, strategy


def _formula(
    h: torch.Tensor,
    down: torch.Tensor,
    down_bias: torch.Tensor,
    up: torch.Tensor,
    up_bias: torch.Tensor,
    *,
    activation: Activation = "gelu",
) -> torch.Tensor:
    """Houlsby et al. 2019, section 2.1, in plain steps that autograd follows."""
    narrow = functional.linear(h, down, down_bias)
    return h + functional.linear(ACTIVATIONS[activation](narrow), up, up_bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 8), (7, 33), (2, 3, 64)])
def test_one_step_equals_the_formula(
    shape: tuple[int, ...], activation: Activation, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    size, narrow = shape[-1], 5
    h = torch.randn(shape).to(dtype).requires_grad_()
    shapes = ((narrow, size), (narrow,), (size, narrow), (size,))
    parts = [torch.randn(part).requires_grad_() for part in shapes]  # float32 masters
    # The reference rounds the masters as the step does, and is exact from there on.
    exact = [h.detach().double().requires_grad_()]
    exact += [part.detach().to(dtype).double().requires_grad_() for part in parts]
    found, wanted = (
        bottleneck(h, *parts, activation=activation),
        _formula(*exact, activation=activation),
    )
    gradient = torch.randn(shape).to(dtype)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    pairs = zip(
        (found, *torch.autograd.grad(found, [h, *parts], gradient)),
        (wanted, *torch.autograd.grad(wanted, exact, gradient.double())),
        strict=True,
    )
    for one, other in pairs:
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(
            one.double(), other, atol=2 * tolerance * scale, rtol=2 * tolerance
        )


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("name", CONFIGS)
def test_adapters_stand_where_the_papers_put_them(name: str, placement: Any) -> None:
    model, strategy = _trained(name, placement=placement)
    both = SUBLAYERS.get(name, LLAMA_LIKE)
    wanted = both if placement == "houlsby" else both[1:]
    found = find_sublayers(model, placement)
    assert found[: len(wanted)] == wanted
    assert len(found) == 2 * len(wanted)  # both layers

    def after(parts: Sequence[torch.Tensor]) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return _formula(output[0], *parts), *output[1:]
            return _formula(output, *parts)

        return hook

    plain, parameters = plain_model(name), strategy.parameters(model)
    for path in found:
        parts = [parameters[f"{path}.{part}"] for part in ("down", "down_bias", "up", "up_bias")]
        plain.get_submodule(path).register_forward_hook(after(parts))
    with torch.no_grad():
        expected = plain(IDS[None], use_cache=False).logits[0]
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)
    assert (expected - _logits(packed_model(name))).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["gpt_neox", "phi3"])
def test_the_sublayer_adds_what_the_adapter_gives(name: str) -> None:
    """Parallel parts (GPT-NeoX) and ones in a row (Phi-3): x + attention + feed-forward."""
    model, strategy = _trained(name, placement="pfeiffer")
    for path in find_sublayers(model, "pfeiffer"):
        for part in ("down", "down_bias", "up"):
            strategy.parameters(model)[f"{path}.{part}"].data.zero_()
    seen: dict[str, torch.Tensor] = {}
    *_, last = find_sublayers(model, "pfeiffer")
    layer = model.get_submodule(last.rsplit(".", 1)[0])
    layer.register_forward_hook(lambda module, args, output: seen.update(with_=_first(output)))
    _logits(model)
    with_adapter = seen["with_"]
    shift = strategy.parameters(model)[f"{last}.up_bias"].detach().clone()
    strategy.parameters(model)[f"{last}.up_bias"].data.zero_()
    _logits(model)
    # The bias of the last adapter reaches the residual stream as it is.
    difference = (with_adapter - seen["with_"]).flatten(0, -2)
    torch.testing.assert_close(difference, shift.expand_as(difference), atol=1e-5, rtol=1e-5)


def _first(output: Any) -> torch.Tensor:
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_no_effect_at_the_start_switched_off_or_taken_away(name: str) -> None:
    base, fresh = packed_model(name), packed_model(name)
    before = [name for name, _ in fresh.named_modules()]
    Bottleneck().attach(fresh, seed=0)
    assert torch.equal(_logits(fresh), _logits(base))
    model, strategy = _trained(name)
    with strategy.disabled(model):
        assert torch.equal(_logits(model), _logits(base))
    trained = _logits(model)
    assert not torch.equal(trained, _logits(base))
    assert hash_parameters(strategy.frozen(model).items()) == hash_parameters(
        base.named_parameters()
    )
    strategy.take(model)
    assert torch.equal(_logits(model), _logits(base))
    assert [name for name, _ in model.named_modules()] == before
    strategy.put(model, 2)
    assert torch.equal(_logits(model), _logits(base))
    assert torch.equal(_logits(model, adapter=2), trained)


@pytest.mark.parametrize("settings", [{"placement": "pfeiffer"}, {"activation": "relu", "size": 3}])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_saved_and_loaded_it_computes_the_same_bits(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model, strategy = _trained(name, **settings)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    loaded = packed_model(name)
    again = Bottleneck.load(loaded, tmp_path)
    assert again.describe() == strategy.describe()
    assert torch.equal(_logits(loaded), _logits(model))


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "mixtral"])
def test_documents_of_base_and_several_adapters_are_computed_together(
    name: str, tmp_path: Path
) -> None:
    model, _ = _trained(name)
    _, second = _trained(name, size=3, placement="pfeiffer")
    second.save(model, tmp_path, Base(name, tmp_path))
    Bottleneck.load(model, tmp_path, number=2)
    adapters = [1, 0, 2, 2, 1]
    parts = [torch.randint(4, VOCABULARY, (n,)) for n in (9, 4, 12, 2, 7)]
    segments = [Segment(len(p), adapter=n) for p, n in zip(parts, adapters, strict=True)]
    with torch.no_grad():
        together = run_on(model, torch.cat(parts), PackedLayout(segments))
    alone = [_logits(model, p, adapter=n) for p, n in zip(parts, adapters, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "mixtral"])
def test_every_parameter_learns_and_recomputing_changes_no_bit(name: str) -> None:
    found = []
    for recompute in (False, True):
        model, strategy = _trained(name)
        settings = TrainSettings(epochs=1, learning_rate=1e-3, batch_tokens=1, recompute=recompute)
        loss = TrainStep(model, Sft(), settings).train()(collate(random_rows(5), range(5)))
        parameters = list(strategy.parameters(model).values())
        found.append(torch.autograd.grad(loss.total, parameters))
        assert sum(p.requires_grad for p in model.parameters()) == len(parameters)
    assert all(bool(gradient.any()) for gradient in found[0])
    assert all(map(torch.equal, *found))


def test_the_backward_pass_keeps_the_input_and_the_narrow_product() -> None:
    kept: list[torch.Size] = []
    h, size, narrow = torch.randn(50, 64, requires_grad=True), 64, 5
    parts = [
        torch.randn(shape, requires_grad=True)
        for shape in ((narrow, size), (narrow,), (size, narrow), (size,))
    ]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        bottleneck(h, *parts, activation="gelu")
    assert sorted(shape for shape in kept if shape[0] == 50) == [(50, narrow), (50, size)]


def test_a_base_of_another_make_is_refused() -> None:
    model = packed_model("llama")
    for layer in model.model.layers:
        layer.mixer = layer.mlp
        del layer.mlp
    with pytest.raises(ModelError, match="no part of a known name"):
        Bottleneck().attach(model, seed=0)


def _saved(folder: Path) -> Path:
    model, strategy = _trained("llama")
    strategy.save(model, folder, Base("llama", folder))
    return folder


@pytest.mark.parametrize("change", [{"placement": "everywhere"}, {"activation": None}])
def test_a_changed_config_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = _saved(tmp_path) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=r"houlsby or pfeiffer.* gelu or relu"):
        Bottleneck.load(packed_model("llama"), tmp_path)


def test_changed_tensors_and_another_base_are_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path) / "adapter_model.safetensors"
    tensors = load_file(path)
    with pytest.raises(ModelError, match="made for another base"):
        Bottleneck.load(packed_model("gpt2"), tmp_path)
    name = next(name for name in tensors if name.endswith(".down"))
    spoiled = {
        "projections of one size": {**tensors, name: torch.zeros(9, 32)},
        "same sub-layers": {key: value for key, value in tensors.items() if key != name},
        "does not fit": {
            key: value[:, :-1].contiguous() if key.endswith(".down") else value
            for key, value in tensors.items()
        },
    }
    model = packed_model("llama")
    for message, parts in spoiled.items():
        save_file(parts, path)
        with pytest.raises(ModelError, match=message):
            Bottleneck.load(model, tmp_path)
    assert torch.equal(_logits(model), _logits(packed_model("llama")))
