"""The rules behind `auto`: within bounds, monotonic, and never over what is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.data import TokenRows
from tunefork.models import Base
from tunefork.training import TrainingData
from tunefork.workflow.derive import Derived, derive, learning_rate_for, longest_row, room
from tunefork.workflow.spec import Spec

_TOKENS = st.integers(1, 5_000_000)


def _base(folder: Path, **config: Any) -> Base:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return Base("a", folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base")
    return _base(folder, hidden_size=576, max_position_embeddings=1024)


def _spec(**values: Any) -> Spec:
    return Spec.model_validate({"data": {"train": "t.jsonl"}, **values})


def _derive(spec: Spec, base: Base, n_tokens: int, has_validation: bool) -> Derived:
    rows = TokenRows(
        ids=np.zeros(n_tokens, np.int32),
        weights=np.ones(n_tokens, np.float32),
        offsets=np.array([0, n_tokens], np.int64),
    )
    return derive(spec, base, TrainingData(rows, rows if has_validation else None))


def _origins(found: Derived) -> dict[str, tuple[str, str]]:
    return {row.key: (row.value, row.origin) for row in found.origins}


@given(n_tokens=_TOKENS, has_validation=st.booleans())
def test_bounds(base: Base, n_tokens: int, has_validation: bool) -> None:
    found = _derive(_spec(), base, n_tokens, has_validation).settings
    assert 256 <= found.batch_tokens <= 8192
    assert found.batch_tokens % 64 == 0
    assert 3 <= found.epochs <= 15
    assert 1 <= found.micro_tokens <= found.batch_tokens
    assert found.checkpoint_every >= 10
    assert (found.validate_every > 0) == (found.patience > 0) == has_validation


@given(fewer=_TOKENS, more=_TOKENS)
def test_more_data_never_means_smaller_batches(base: Base, fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    small = _derive(_spec(), base, fewer, True).settings
    large = _derive(_spec(), base, more, True).settings
    assert small.batch_tokens <= large.batch_tokens


@given(n_tokens=st.integers(2_000_000, 5_000_000))
def test_much_data_needs_the_fewest_passes(base: Base, n_tokens: int) -> None:
    assert _derive(_spec(), base, n_tokens, True).settings.epochs == 3


def test_wider_models_learn_at_lower_rates(tmp_path: Path) -> None:
    rates = [
        learning_rate_for(_base(tmp_path, **{key: size}), "lora")
        for size in (64, 256, 1024, 4096)
        for key in ("hidden_size", "n_embd")
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == rates[1] > rates[2]
    assert learning_rate_for(_base(tmp_path, hidden_size=2000), "lora") == 5e-4
    assert learning_rate_for(_base(tmp_path, hidden_size=2000), "full") == 5e-5


def test_given_values_win_and_are_called_given(base: Base) -> None:
    given_values = {
        "epochs": 2,
        "learning_rate": 0.003,
        "batch_tokens": 100,
        "max_length": 77,
        "seed": 5,
    }
    strategy = {"name": "lora", "rank": 3, "alpha": 7}
    found = _derive(_spec(training=given_values, strategy=strategy), base, 10_000, True)
    origins = _origins(found)
    for key, value in {**given_values, "rank": 3, "alpha": 7.0, "strategy": "lora"}.items():
        assert origins[key] == (str(value), "given"), key
    assert found.settings.epochs == 2
    assert found.settings.learning_rate == 0.003
    assert found.settings.batch_tokens == 100
    assert found.settings.seed == 5
    assert found.strategy.describe()["rank"] == 3


def test_what_is_not_given_is_called_derived(base: Base) -> None:
    found = _derive(_spec(), base, 10_000, True)
    assert {origin for _, origin in _origins(found).values()} == {"derived"}
    assert found.strategy.name == "lora"
    described = found.strategy.describe()
    assert described["alpha"] == 2 * described["rank"]


@pytest.mark.parametrize(("hidden", "rank"), [(64, 8), (511, 8), (512, 16), (4096, 16)])
def test_small_models_get_small_ranks(hidden: int, rank: int, tmp_path: Path) -> None:
    base = _base(tmp_path, hidden_size=hidden)
    assert _derive(_spec(), base, 10_000, True).strategy.describe()["rank"] == rank


def test_full_has_no_rank(base: Base) -> None:
    found = _derive(_spec(strategy="full"), base, 10_000, False)
    assert found.strategy.name == "full"
    assert _origins(found)["strategy"] == ("full", "given")
    assert "rank" not in _origins(found)


@pytest.mark.parametrize(
    ("limit", "wanted", "found"),
    [
        (1024, "auto", 1024),
        (32_768, "auto", 2048),
        (None, "auto", 2048),
        (1024, 100, 100),
        (1024, 5000, 1024),
        (None, 5000, 5000),
    ],
)
def test_longest_row(limit: int | None, wanted: int | str, found: int, tmp_path: Path) -> None:
    base = _base(tmp_path, **({} if limit is None else {"max_position_embeddings": limit}))
    assert longest_row(_spec(training={"max_length": wanted}), base) == found


def test_what_is_reported_is_what_is_used(tmp_path: Path) -> None:
    base = _base(tmp_path, max_position_embeddings=64)
    found = _derive(_spec(training={"max_length": 5000}), base, 10_000, True)
    assert _origins(found)["max_length"] == ("64", "derived")


def test_small_bases_compute_more_at_once_than_large_ones(tmp_path: Path) -> None:
    def at_once(name: str, **sizes: int) -> int:
        (tmp_path / name).mkdir()
        return room(_base(tmp_path / name, **sizes), 512)[0]

    small = at_once("small", hidden_size=256, num_hidden_layers=6, num_attention_heads=4)
    large = at_once("large", hidden_size=4096, num_hidden_layers=32, num_attention_heads=32)
    assert small == 2048
    assert large == 512


def test_layers_are_recomputed_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = _base(tmp_path, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16)
    monkeypatch.setattr("tunefork.workflow.derive.free_bytes", lambda: 64 << 30)
    assert not room(base, 1024)[1]
    monkeypatch.setattr("tunefork.workflow.derive.free_bytes", lambda: 1 << 30)
    assert room(base, 1024)[1]


def test_sizes_that_make_no_sense_do_not_stop_the_arithmetic(tmp_path: Path) -> None:
    base = _base(tmp_path, hidden_size=576)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": "many"}')
    assert room(base, 1024)[0] >= 512
