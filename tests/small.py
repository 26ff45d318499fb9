"""Small random models of real architectures, and random rows, for tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tunefork.data.tokens import TokenRows
from tunefork.models import Base, adapt_model

VOCABULARY = 97
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}

CONFIGS: dict[str, Any] = {
    "llama": transformers.LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "qwen2": transformers.Qwen2Config(**_GROUPED),
    "qwen3": transformers.Qwen3Config(**_GROUPED, head_dim=8),
    "mistral": transformers.MistralConfig(**_GROUPED, sliding_window=5),
    "gpt2": transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **_SPECIAL,
    ),
    "gemma": transformers.GemmaConfig(**_GROUPED, head_dim=8),
    "gemma2": transformers.Gemma2Config(**_GROUPED, head_dim=8, sliding_window=5),
    "gemma3": transformers.Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=5),
    "phi3": transformers.Phi3Config(**_GROUPED),
    "gpt_neox": transformers.GPTNeoXConfig(**_SIZES),
    "gptj": transformers.GPTJConfig(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        rotary_dim=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **_SPECIAL,
    ),
    "mixtral": transformers.MixtralConfig(**_GROUPED, num_local_experts=4),
}


def plain_model(name: str, seed: int = 0) -> Any:
    """Return a random float32 model that runs transformers' own eager attention."""
    torch.manual_seed(seed)
    config = copy.deepcopy(CONFIGS[name])
    return transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    ).eval()


def packed_model(name: str, seed: int = 0) -> Any:
    """Return the same weights as `plain_model`, running our attention, nothing trainable."""
    return adapt_model(plain_model(name, seed), Base(name, Path(name)))


def save_model(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a small model to a folder, with a word-level tokenizer beside it."""
    plain_model(name, seed).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(
    folder: Path, text: str = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLM.?!,:'\n"
) -> None:
    """Write a tokenizer of single characters, without a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    for character in dict.fromkeys(text):
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder)


def random_rows(count: int, seed: int = 0, longest: int = 20) -> TokenRows:
    """Return rows of random tokens whose first third is an untrained prompt."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest, count)
    weights = np.concatenate(
        [(np.arange(length) >= max(1, length // 3)).astype(np.float32) for length in lengths]
    )
    return TokenRows(
        ids=random.integers(4, VOCABULARY, int(lengths.sum())).astype(np.int32),
        weights=weights,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
