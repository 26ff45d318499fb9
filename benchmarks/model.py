"""The models that everyone trains, made once under `$TUNEFORK_HOME`: weights and a first adapter.

`50m` and `135m` have the shapes of common small Llamas and seeded random weights: speed does not
depend on what the weights are, and losses still compare. `tiny` is the bundled base. `GPU_SHAPES`
are for `benchmarks.gpu`, whose workers make the weights on the device.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import state
from benchmarks.workers.common import ALPHA, RANK
from tunefork.core.files import new_folder, write_json

_SHAPES = {
    "50m": {
        "vocab_size": 32_768,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
    "135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
}

GPU_SHAPES: dict[str, dict[str, int]] = {  # in order of size, after `small` for tests
    "small": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
    },
    "135m": _SHAPES["135m"],
    "1.5b": {
        "vocab_size": 151_936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "7b": {
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}
_GPU_LONGEST = 16_384  # tokens


@dataclass(frozen=True)
class Model:
    """A model on disk."""

    folder: Path
    adapter: Path  # seeded A, B = 0: the same beginning for everyone

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return int(config["vocab_size"])


def get_model(name: str) -> Model:
    """Return a model, made at the first call: a name above, `tiny`, or a folder."""
    from tunefork.models import find_base

    places = state() / "models"
    if name in _SHAPES:
        folder = places / name
        if not folder.is_dir():
            with new_folder(folder) as partial:
                _save_random(partial, _SHAPES[name])
    else:
        folder = find_base(name).folder
    adapter = places / f"{Path(name).name}-adapter"
    if not adapter.is_dir():
        with new_folder(adapter) as partial:
            _save_adapter(folder, partial)
    return Model(folder, adapter)


def save_shape(name: str, folder: Path) -> None:
    """Write the configuration of one of `GPU_SHAPES` and a tokenizer, without weights."""
    config = {
        **GPU_SHAPES[name],
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": _GPU_LONGEST,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    write_json(folder / "config.json", config)
    _save_tokenizer(folder)


def _save_random(folder: Path, shape: dict[str, int]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    # Saved in bf16, so that cells in float32 begin at the same values.
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=torch.float32)
    model.bfloat16().save_pretrained(folder)
    _save_tokenizer(folder)


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    PreTrainedTokenizerFast(  # never used, but TRL asks for one
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)


def _save_adapter(base_folder: Path, folder: Path) -> None:
    import torch

    from tunefork.models import find_base, load_model
    from tunefork.strategies import Lora, LoraSettings

    base = find_base(str(base_folder))
    model = load_model(base, device="cpu", dtype=torch.float32)
    strategy = Lora(LoraSettings(rank=RANK, alpha=ALPHA))
    strategy.attach(model, seed=0)
    strategy.save(model, folder, base)
