"""A tuned model's card says how its base is loaded; what does not fit it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import save_model
from tests.strategies.cases import disturb, logits
from tunefork.core.errors import ModelError
from tunefork.models import find_base, load_model
from tunefork.models.quantized import quantized_layers
from tunefork.strategies import LoraSettings, Qlora
from tunefork.workflow.opened import CARD, open_model, write_card


@pytest.fixture
def tuned(tmp_path: Path) -> tuple[Path, Any]:
    """Save an adapter beside a base in four bits; return its folder and the model it is on."""
    base = find_base(str(save_model("llama", tmp_path / "base")))
    model, strategy = load_model(base, quantization="nf4"), Qlora(LoraSettings(rank=4))
    strategy.attach(model, 1)
    disturb(strategy, model)
    folder = tmp_path / "adapter"
    folder.mkdir()
    strategy.save(model, folder, base)
    write_card(folder, base, None, "a-run", "nf4")
    return folder, model


def _edit_card(folder: Path, **changes: Any) -> None:
    path = folder / CARD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_base_is_loaded_as_it_was_trained_with(tuned: tuple[Path, Any]) -> None:
    folder, model = tuned
    opened = open_model(str(folder)).chat.model
    assert any(quantized_layers(opened))
    assert torch.equal(logits(opened), logits(model))


def test_a_card_from_before_there_were_four_bits(tuned: tuple[Path, Any]) -> None:
    folder, _ = tuned
    card = json.loads((folder / CARD).read_text())
    del card["quantization"]
    (folder / CARD).write_text(json.dumps(card))
    assert not any(quantized_layers(open_model(str(folder)).chat.model))


def test_a_kind_of_quantization_that_is_not_known(tuned: tuple[Path, Any]) -> None:
    folder, _ = tuned
    _edit_card(folder, quantization="int3")
    with pytest.raises(ModelError, match="`int3`, which is not known"):
        open_model(str(folder))


def test_an_adapter_of_another_base(tuned: tuple[Path, Any]) -> None:
    folder, _ = tuned
    _edit_card(folder, base_hash="sha256:0")
    with pytest.raises(ModelError, match="another version of its base"):
        open_model(str(folder))
