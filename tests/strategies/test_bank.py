"""Adapters come and go on one base, and cost what their own tensors take."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import packed_model
from tests.strategies.cases import IDS, disturb, logits
from tunefork.core.errors import ModelError
from tunefork.models import Base, PackedLayout, Segment
from tunefork.strategies import Bank, Bottleneck, Lora, LoraSettings, Prefix, PrefixSettings


def _by(bank: Bank, number: int) -> torch.Tensor:
    return logits(bank.model, IDS, PackedLayout([Segment(len(IDS), adapter=number)]))


def _saved(folder: Path, strategy: Any, seed: int) -> Path:
    """Save an adapter of its own base, and return its folder."""
    model = packed_model("llama")
    strategy.attach(model, seed)
    disturb(strategy, model, seed)
    folder.mkdir()
    strategy.save(model, folder, Base("llama", folder))
    return folder


def test_numbers_are_given_back_and_used_again(tmp_path: Path) -> None:
    bank = Bank(packed_model("llama"))
    folders = [_saved(tmp_path / f"{rank}", Lora(LoraSettings(rank=rank)), rank) for rank in (2, 3)]
    folders.append(_saved(tmp_path / "prefix", Prefix(PrefixSettings(tokens=2)), 4))
    folders.append(_saved(tmp_path / "bottleneck", Bottleneck(), 5))
    assert [bank.add(folder) for folder in folders] == [1, 2, 3, 4]
    results = {number: _by(bank, number) for number in range(5)}
    bank.remove(2)
    assert bank.names == {1: "2", 3: "prefix", 4: "bottleneck"}
    assert torch.equal(_by(bank, 2), results[0])  # nobody's tokens are the base's
    assert torch.equal(_by(bank, 4), results[4])
    assert bank.add(folders[1], "again") == 2
    assert all(torch.equal(_by(bank, number), results[number]) for number in range(5))
    assert bank.names[2] == "again"
    assert len(bank) == 4


def test_an_adapter_costs_its_own_bytes(tmp_path: Path) -> None:
    bank = Bank(packed_model("llama"))
    folder = _saved(tmp_path / "one", Lora(LoraSettings(rank=2)), 1)
    bank.add(folder)
    before = {id(tensor): tensor.data_ptr() for tensor in bank.model.parameters()}
    bytes_before = sum(p.numel() * p.element_size() for p in bank.model.parameters())
    for _ in range(20):
        bank.add(folder)
    bytes_now = sum(p.numel() * p.element_size() for p in bank.model.parameters())
    own = sum(p.numel() * 4 for p in bank[7].parameters(bank.model).values())
    assert bytes_now - bytes_before == 20 * own
    assert own * 1.2 > (folder / "adapter_model.safetensors").stat().st_size - 10_000
    now = {id(tensor): tensor.data_ptr() for tensor in bank.model.parameters()}
    assert before.items() <= now.items()


def test_swapped_adapters_answer_for_each_other(tmp_path: Path) -> None:
    bank = Bank(packed_model("llama"))
    bank.add(_saved(tmp_path / "lora", Lora(LoraSettings(rank=2)), 1))
    bank.add(_saved(tmp_path / "prefix", Prefix(PrefixSettings(tokens=2)), 2))
    one, other, kept = _by(bank, 1), _by(bank, 2), bank[1].parameters(bank.model)
    bank.swap(1, 2)
    assert torch.equal(_by(bank, 1), other)
    assert torch.equal(_by(bank, 2), one)
    assert torch.equal(logits(bank.model), other)  # where nobody says which
    assert bank.names == {1: "prefix", 2: "lora"}
    again = bank[2].parameters(bank.model)
    assert all(again[name] is parameter for name, parameter in kept.items())


def test_a_refused_adapter_leaves_the_bank_as_it_was(tmp_path: Path) -> None:
    bank = Bank(packed_model("gpt2"))
    names = [name for name, _ in bank.model.named_modules()]
    for strategy in (Lora(LoraSettings(rank=2)), Bottleneck()):
        with pytest.raises(ModelError):
            bank.add(_saved(tmp_path / strategy.name, strategy, 1))
    assert not len(bank)
    assert [name for name, _ in bank.model.named_modules()] == names
    with pytest.raises(ModelError, match="not a usable adapter"):
        bank.add(tmp_path / "nothing")
