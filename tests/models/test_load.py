"""Only models whose every layer asks the layout are let in."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.small import CONFIGS, save_model
from tunefork.core.errors import ModelError
from tunefork.models import find_base, load_model

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
UNSUPPORTED = {
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=97, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0
    ),
    "lfm2": lambda: transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_supported_architectures_load(name: str, tmp_path: Path) -> None:
    load_model(find_base(str(save_model(name, tmp_path))))


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_models_that_mix_tokens_in_another_way_are_refused(name: str, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(UNSUPPORTED[name]())
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(find_base(str(tmp_path)))
    assert caught.value.hint
