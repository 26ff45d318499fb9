"""Small tokenizers, built in code: one of bytes (GPT-2, Qwen), one of pieces (Llama, Gemma)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel, TemplateProcessing

TEMPLATES = Path(__file__).parent / "templates"
SPECIAL = [
    "<bos>",
    "<eos>",
    "<unk>",
    "<pad>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|start_header|>",
    "<|end_header|>",
    "<|eot|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|call|>",
    "[INST]",
    "[/INST]",
]
CORPUS = [
    "Hello there! What do cats do all day? They sleep a lot, and they play with boxes.",
    "You are a helpful assistant. Today: 26 Jul 2024\nUser: Hi\nAssistant: Hello\n\n",
    "### Question:\nHow warm is it in Paris?\n\n### Answer:\nIt is 21 degrees, <b>sunny</b>.\n",
    '{"name": "weather", "arguments": {"city": "Paris"}} tool_call think tool_response',
] * 4

MakeFolder = Callable[..., Path]


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = ByteLevel(trim_offsets=True)
    return tokenizer


def _pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=[chr(code) for code in range(32, 127)] + ["\n", "é", "▁", "🐈"],
        show_progress=False,
    )
    # As in SentencePiece, pieces learned from text do not reach across words.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_files() -> dict[str, str]:
    """The text of `tokenizer.json`, by kind."""
    return {"bytes": _byte_level().to_str(), "pieces": _pieces().to_str()}


@pytest.fixture
def make_folder(tmp_path: Path, tokenizer_files: dict[str, str]) -> MakeFolder:
    """Return a function that writes a model folder's tokenizer files."""

    def make(
        template: str | None = None,
        kind: str = "bytes",
        files: dict[str, object] | None = None,
        **settings: Any,
    ) -> Path:
        folder = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "tokenizer.json").write_text(tokenizer_files[kind], encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
        config |= settings
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        if template is not None:
            source = TEMPLATES / f"{template}.jinja"
            (folder / "chat_template.jinja").write_bytes(source.read_bytes())
        for name, value in (files or {}).items():
            (folder / name).write_text(json.dumps(value), encoding="utf-8")
        return folder

    return make
