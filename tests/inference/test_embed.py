"""Vectors equal transformers' own states of each text alone, pooled by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.small import save_model, save_tokenizer
from tunefork.core.errors import ModelError
from tunefork.inference import load_embedder
from tunefork.models import find_base
from tunefork.retrieval import update_index

_TEXTS = ["a cat", "", "The dog is in the house.", "a cat", "b " * 40]


def _sentence_model(folder: Path, pooling: str = "mean_tokens", **settings: Any) -> Path:
    """Write a small random model as sentence-transformers does."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder)
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in steps
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_mean_tokens": False, f"pooling_mode_{pooling}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**modes, **settings}))
    return folder


def _by_hand(folder: Path, text: str, pooling: str, longest: int) -> np.ndarray[Any, Any]:
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"][:longest] or [0]
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    pooled = states[0] if pooling == "cls_token" else states.mean(0)
    found: np.ndarray[Any, Any] = pooled / max(np.linalg.norm(pooled), 1e-12)
    return found


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
def test_a_sentence_model_pools_as_its_folder_says(tmp_path: Path, pooling: str) -> None:
    folder = _sentence_model(tmp_path / "model", pooling)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    vectors = load_embedder(find_base(str(folder)), device="cpu").embed(_TEXTS)
    expected = np.stack([_by_hand(folder, text, pooling, 20) for text in _TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_any_other_base_gives_the_mean_of_its_states(tmp_path: Path, name: str) -> None:
    folder = save_model(name, tmp_path / "base")
    vectors = load_embedder(find_base(str(folder)), device="cpu").embed(_TEXTS)
    expected = np.stack([_by_hand(folder, text, "mean_tokens", 128) for text in _TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_its_name_changes_with_its_weights(tmp_path: Path) -> None:
    names = [
        load_embedder(find_base(str(save_model("llama", tmp_path / str(seed), seed))))
        for seed in (0, 1)
    ]
    assert names[0].name.rpartition("@")[2] != names[1].name.rpartition("@")[2]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("modules.json", '[{"path": "", "type": "models.Transformer"}]', "its steps are"),
        ("modules.json", '[{"path": "2", "type": "models.Dense"}]', "Dense"),
        ("modules.json", "{", "settings"),
        ("1_Pooling/config.json", '{"pooling_mode_lasttoken": true}', "lasttoken"),
        ("1_Pooling/config.json", "{}", "nothing known"),
        ("config.json", '{"model_type": "no-such-model"}', "cannot load"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    tmp_path: Path, file: str, content: str, words: str
) -> None:
    folder = _sentence_model(tmp_path / "model")
    (folder / file).write_text(content)
    with pytest.raises(ModelError) as error:
        load_embedder(find_base(str(folder)))
    assert words in error.value.message
    assert error.value.hint


def test_an_index_is_searched_by_a_model(tmp_path: Path) -> None:
    embed = load_embedder(find_base(str(_sentence_model(tmp_path / "model"))))
    (tmp_path / "docs").mkdir()
    for name in ("cat", "dog", "shop"):
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name}\nAll about the {name}.\n")
    index = update_index(tmp_path / "docs", tmp_path / "index", embed=embed)
    exact = index.chunks[1].indexed
    assert index.search(exact, 1, how="vectors", embed=embed)[0].chunk == index.chunks[1]
    assert index.search(exact, 1, embed=embed)[0].score == pytest.approx(2 / 61)
