"""What is read from a model folder's tokenizer files, and what is said about broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tunefork.core.errors import ModelError
from tunefork.data import load_tokenizer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
STORIES = SHARED / "model_stories260K" / "hf"


def test_eos_ids_come_from_all_files(make_folder: Any) -> None:
    plain = load_tokenizer(make_folder(eos_token="<eos>"))
    assert {plain.token_text(key) for key in plain.eos_ids} == {"<eos>"}
    generation = {"generation_config.json": {"eos_token_id": [5, 8, 10**6]}}
    more = load_tokenizer(make_folder(eos_token="<eos>", files=generation))
    assert more.eos_ids == plain.eos_ids | {5, 8}
    config = load_tokenizer(
        make_folder(eos_token="<eos>", files={"config.json": {"eos_token_id": 5}})
    )
    assert config.eos_ids == plain.eos_ids | {5}
    assert load_tokenizer(make_folder(eos_token=None)).eos_ids == frozenset()


@pytest.mark.parametrize(
    ("config", "limit", "expected"),
    [
        ({"max_position_embeddings": 128}, 64, 64),
        ({"max_position_embeddings": 128}, 1e30, 128),
        ({"text_config": {"max_position_embeddings": 32}}, None, 32),
        ({"n_positions": 16}, 1e30, 16),
        ({}, 1e30, None),
        ({}, float("inf"), None),
    ],
)
def test_length_limit(config: Any, limit: Any, expected: int | None, make_folder: Any) -> None:
    folder = make_folder(files={"config.json": config}, model_max_length=limit)
    assert load_tokenizer(folder).model_max_length == expected


def test_chat_template_sources(make_folder: Any) -> None:
    assert load_tokenizer(make_folder()).chat_template is None
    assert load_tokenizer(make_folder(chat_template="A")).chat_template == "A"
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert load_tokenizer(make_folder(chat_template=named)).chat_template == "D"
    both = load_tokenizer(make_folder("bracketed", chat_template="A"))
    assert "[INST]" in str(both.chat_template)


def test_special_tokens_map_has_the_last_word_in_older_folders(make_folder: Any) -> None:
    older = {"special_tokens_map.json": {"eos_token": {"content": "<eos>", "lstrip": False}}}
    assert load_tokenizer(make_folder(files=older)).eos_token == "<eos>"
    newer = make_folder(files=older, added_tokens_decoder={})
    assert load_tokenizer(newer).eos_token == "<|im_end|>"


def test_stored_truncation_and_padding_are_off(make_folder: Any) -> None:
    folder = make_folder()
    stored = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stored.enable_truncation(2)
    stored.enable_padding(length=50)
    stored.save(str(folder / "tokenizer.json"))
    ids = load_tokenizer(folder).encode("Hello there! What do cats do?")
    assert 2 < len(ids) < 50


def test_special_token_that_only_the_settings_name_is_recognised(make_folder: Any) -> None:
    vocabulary = load_tokenizer(make_folder()).backend.get_vocab()
    word = max((text for text in vocabulary if text.isalpha() and text.isascii()), key=len)
    tokenizer = load_tokenizer(make_folder(eos_token=word, pad_token="<nowhere>"))
    ids = tokenizer.encode(f"{word}{word}")
    assert len(ids) == 2
    assert set(ids) == tokenizer.eos_ids
    assert tokenizer.decode(ids) == ""
    assert tokenizer.pad_token is None


def test_offsets_and_token_text(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder())
    text = "Hi <|im_end|> cats é"
    encoded = tokenizer.encode_with_places(text)
    ids = encoded.ids
    end = encoded.first_from(text.index("<|im_end|>"))
    assert tokenizer.token_text(ids[end]) == "<|im_end|>"
    assert tokenizer.token_text(ids[encoded.first_from(text.index(" cats"))]).startswith(" c")
    assert encoded.first_from(0) == 0
    assert encoded.first_from(len(text)) == len(ids)
    assert all(tokenizer.token_text(key) for key in ids)
    assert tokenizer.token_text(10**6) == ""


def _without(folder: Path) -> Path:
    (folder / "tokenizer.json").unlink()
    return folder


def _older(folder: Path) -> Path:
    (folder / "tokenizer.model").write_bytes(b"x")
    return _without(folder)


def _overwrite(name: str, data: bytes) -> Any:
    def change(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without, "holds no `tokenizer.json`"),
        (_older, "only the older tokenizer.model"),
        (lambda folder: folder / "nowhere", "no such model folder"),
        (_overwrite("tokenizer.json", b'{"version": "1.0"}'), "cannot be read"),
        (_overwrite("tokenizer.json", b"\xff"), "cannot be read"),
        (_overwrite("tokenizer_config.json", b"{"), "broken JSON"),
        (_overwrite("tokenizer_config.json", b"\xff\xfe"), "broken JSON"),
        (_overwrite("config.json", b"[]"), "no JSON object"),
        (_overwrite("chat_template.jinja", b"\xff"), "not UTF-8"),
        (
            _overwrite("tokenizer_config.json", json.dumps({"eos_token": "<x>"}).encode()),
            "`<x>` is not in the vocabulary",
        ),
    ],
)
def test_broken_folder(change: Any, message: str, make_folder: Any) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(change(make_folder()))
    assert caught.value.hint
    assert caught.value.where


@pytest.mark.skipif(not STORIES.is_dir(), reason="the real model is not here")
def test_real_folder() -> None:
    tokenizer = load_tokenizer(STORIES)
    assert (tokenizer.vocab_size, tokenizer.model_max_length) == (512, 512)
    assert tokenizer.adds_bos
    assert tokenizer.decode(tokenizer.encode("Once upon a time")) == "Once upon a time"
