"""LoRA here and in PEFT are the same thing: files, logits, loss and gradients."""

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.core.errors import ModelError
from tunefork.models import Base, PackedLayout, collate, hash_parameters, run_on
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings, load_adapter
from tunefork.training import TrainSettings
from tunefork.training.optimizer import MasterAdamW

NAMES = [name for name in CONFIGS if name != "mixtral"]  # PEFT and its fused experts disagree
IDS = torch.arange(4, 40)


def _trained(name: str, **settings: Any) -> tuple[Any, Lora]:
    """Return a model whose adapter has an effect."""
    model, strategy = packed_model(name), Lora(LoraSettings(rank=4, alpha=6, **settings))
    strategy.attach(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in strategy.parameters(model).values():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(noise, alpha=0.1)
    return model, strategy


def _logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return run_on(model, ids, PackedLayout([len(ids)]))


@pytest.mark.parametrize("name", NAMES)
def test_peft_loads_what_we_save(name: str, tmp_path: Path) -> None:
    model, strategy = _trained(name)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path)).eval()
    with torch.no_grad():
        expected = theirs(IDS[None]).logits[0]
    assert (expected - _logits(packed_model(name))).abs().max() > 1e-2
    torch.testing.assert_close(_logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_we_load_what_peft_saves(name: str, tmp_path: Path) -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules="all-linear",
        use_rslora=True,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        fan_in_fan_out=name == "gpt2",
    )
    theirs = peft.get_peft_model(plain_model(name), config).eval()
    theirs.save_pretrained(str(tmp_path))
    model = packed_model(name)
    load_adapter(model, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            _logits(model), theirs(IDS[None]).logits[0], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dora": True},
        {
            "rslora": True,
            "rank_pattern": {"v_proj|c_attn": 2},
            "alpha_pattern": {r"\w+\.1\..*": 9.0},
        },
    ],
    ids=["plain", "dora", "patterns"],
)
def test_loss_and_gradients_equal_a_padded_peft_step(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model, strategy = _trained(name, **settings)
    strategy.save(model, tmp_path, Base(name, tmp_path))
    theirs = peft.PeftModel.from_pretrained(plain_model(name), str(tmp_path), is_trainable=True)
    rows = random_rows(6)
    longest = int(rows.lengths.max())
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros(len(rows), longest)
    for index in range(len(rows)):
        row_ids, weights = (torch.tensor(part) for part in rows.row(index))
        ids[index, : len(row_ids)] = row_ids
        mask[index, : len(row_ids)] = 1
        labels[index, : len(row_ids)] = torch.where(weights > 0, row_ids.long(), -100)
    expected = theirs(ids, attention_mask=mask, labels=labels).loss
    torch.autograd.backward(expected)

    loss = Sft().loss(model, collate(rows, range(len(rows))))
    torch.autograd.backward(loss.total / loss.weight)
    assert float((loss.total / loss.weight).detach()) == pytest.approx(
        float(expected.detach()), abs=1e-4
    )
    gradients = {
        key.replace(".default", "").replace("_vector.weight", "_vector"): parameter.grad
        for key, parameter in theirs.named_parameters()
        if parameter.grad is not None
    }
    ours = {key: parameter.grad for key, parameter in strategy.parameters(model).items()}
    assert gradients.keys() == ours.keys()
    for key, gradient in ours.items():
        torch.testing.assert_close(gradient, gradients[key], atol=1e-4, rtol=1e-4)


def test_targets_by_name() -> None:
    model = packed_model("llama")
    strategy = Lora(LoraSettings(rank=2, targets=("q_proj", "v_proj")))
    strategy.attach(model, seed=0)
    assert {name.rsplit(".", 3)[-3] for name in strategy.parameters(model)} == {"q_proj", "v_proj"}
    with pytest.raises(ModelError, match="no linear layer called `q_porj`") as caught:
        Lora(LoraSettings(targets=("q_porj",))).attach(packed_model("llama"), seed=0)
    assert "q_proj" in str(caught.value.hint)


def test_the_seed_decides_the_start() -> None:
    def start(seed: int) -> str:
        model, strategy = packed_model("llama"), Lora()
        strategy.attach(model, seed)
        return hash_parameters(strategy.parameters(model).items())

    assert start(1) == start(1) != start(2)


def test_patterns_choose_ranks_and_factors_as_peft_does() -> None:
    patterns = {r"layers\.0\.self_attn\.q_proj": 2, "v_proj": 3, "proj": 5, "q_proj": 9}
    settings = LoraSettings(
        rank=8, alpha=16, rank_pattern=patterns, alpha_pattern={"k_proj": 4}, rslora=True
    )
    found = {
        name: (settings.rank_of(f"model.layers.{name}"), settings.scale_of(f"model.layers.{name}"))
        for name in ("0.self_attn.q_proj", "1.self_attn.q_proj", "0.v_proj", "0.k_proj", "proj")
    }
    assert found == {
        "0.self_attn.q_proj": (2, 16 / 2**0.5),
        "1.self_attn.q_proj": (9, 16 / 9**0.5),
        "0.v_proj": (3, 16 / 3**0.5),
        "0.k_proj": (8, 4 / 8**0.5),
        "proj": (5, 16 / 5**0.5),
    }
    with pytest.raises(ValueError, match=r"`\(` is no regular expression"):
        LoraSettings(rank_pattern={"(": 2})
    with pytest.raises(ModelError, match="`q_porj` of `rank_pattern` matches no layer"):
        Lora(LoraSettings(rank_pattern={"q_porj": 2})).attach(packed_model("llama"), seed=0)


def test_lora_plus_moves_b_at_its_own_rate() -> None:
    model = packed_model("llama")
    strategy = Lora(LoraSettings(rank=2, plus_ratio=8))
    strategy.attach(model, seed=0)
    parameters, factors = strategy.parameters(model), strategy.rate_factors(model)
    assert set(factors) == {name for name in parameters if ".lora_B." in name}
    settings = TrainSettings(epochs=1, learning_rate=1e-3, batch_tokens=1, clip=1e9)
    optimizer = MasterAdamW(parameters, settings, factors)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1e-3)
    for name, parameter in parameters.items():  # Adam's first step is the learning rate itself
        moved = float((before[name] - parameter.detach()).mean())
        assert moved == pytest.approx(1e-3 * factors.get(name, 1.0), rel=1e-2)
    assert Lora(LoraSettings()).rate_factors(model) == {}


def _break_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "method is IA3, which is not supported"),
        ({"peft_type": None}, "names no method"),
        ({"init_lora_weights": "pissa_niter_4"}, "`pissa_niter_4`, which changed the base"),
        ({"init_lora_weights": "loftq"}, "`loftq`, which changed the base"),
        ({"use_qalora": True}, "uses `use_qalora`"),
        ({"modules_to_save": ["lm_head"]}, "uses `modules_to_save`"),
        ({"bias": "all"}, "uses `bias`"),
        ({"r": 7}, r"has rank 4, and adapter_config.json says 7"),
        ({"rank_pattern": {"q_proj": 2}}, r"q_proj` has rank 4, and adapter_config.json says 2"),
        ({"r": "many"}, "not a usable adapter: `r`"),
        ({"lora_alpha": -1}, "not a usable adapter: `lora_alpha`"),
        ({"rank_pattern": {"(": 1}}, "no regular expression"),
        ({"target_modules": "("}, "`target_modules` is no regular expression"),
        ({"use_dora": True}, "a pair of matrices and a magnitude for each layer"),
    ],
)
def test_configs_that_cannot_be_used(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model, strategy = _trained("llama")
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    _break_config(tmp_path, **changes)
    _refused(tmp_path, message)


def test_a_config_without_its_rank(tmp_path: Path) -> None:
    model, strategy = _trained("llama")
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["r"]
    path.write_text(json.dumps(config))
    _refused(tmp_path, "does not say 'r'")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("shape", "made for another base: .* has the shape"),
        ("name", "made for another base: it has no linear layer"),
        ("half", "a pair of matrices for each layer"),
        ("empty", "holds no tensors"),
        ("gone", "No such file"),
        ("garbage", "not a usable adapter"),
    ],
)
def test_tensors_that_cannot_be_used(damage: str, message: str, tmp_path: Path) -> None:
    model, strategy = _trained("llama")
    strategy.save(model, tmp_path, Base("llama", tmp_path))
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = sorted(tensors)[-2]  # of the last layer: the others fit
    if damage == "shape":
        tensors[key] = torch.zeros(4, 7)
    elif damage == "name":
        _break_config(tmp_path, target_modules="all-linear")
        tensors = {name.replace("v_proj", "value"): tensor for name, tensor in tensors.items()}
    elif damage == "half":
        del tensors[key]
    elif damage == "empty":
        tensors = {}
    save_file(tensors, weights)
    if damage == "gone":
        weights.unlink()
    elif damage == "garbage":
        weights.write_bytes(b"\x00" * 40)
    _refused(tmp_path, message)


def _refused(folder: Path, message: str) -> None:
    """Check that a folder is refused with a hint, and the model left as it was."""
    untouched = packed_model("llama")
    before = [name for name, _ in untouched.named_modules()]
    with pytest.raises(ModelError, match=message) as caught:
        load_adapter(untouched, folder)
    assert caught.value.hint
    assert [name for name, _ in untouched.named_modules()] == before


def test_gradients_reach_only_the_adapter() -> None:
    model, strategy = _trained("llama")
    before = copy.deepcopy(strategy.frozen(model))
    loss = Sft().loss(model, collate(random_rows(4), range(4)))
    torch.autograd.backward(loss.total)
    assert all(p.grad is not None for p in strategy.parameters(model).values())
    assert all(p.grad is None for p in strategy.frozen(model).values())
    assert hash_parameters(before.items()) == hash_parameters(strategy.frozen(model).items())
    assert model.get_output_embeddings().weight.shape[0] == VOCABULARY
