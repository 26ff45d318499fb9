"""The rules behind `auto`: within bounds, monotonic, and never over what is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.core.errors import ModelError
from tunefork.data import TokenRows
from tunefork.models import Base
from tunefork.training import TrainingData
from tunefork.workflow import rules
from tunefork.workflow.derive import Derived, derive, find_room, longest_row
from tunefork.workflow.estimate import Body
from tunefork.workflow.machine import Machine
from tunefork.workflow.spec import Spec
from tunefork.workflow.strategy_specs import LoraSpec

_TOKENS = st.integers(1, 5_000_000)


def _base(folder: Path, **config: Any) -> Base:
    config = {"model_type": "llama", "num_hidden_layers": 2, **config}
    (folder / "config.json").write_text(json.dumps(config))
    return Base("a", folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base")
    return _base(folder, hidden_size=576, max_position_embeddings=1024)


def _machine(free_bytes: int) -> Machine:
    return Machine("cpu", "one", free_bytes, free_bytes, 2, is_this=False)


_LARGE = _machine(1 << 40)


def _spec(**values: Any) -> Spec:
    return Spec.model_validate({"data": {"train": "t.jsonl"}, **values})


def _rows(n_tokens: int) -> TokenRows:
    return TokenRows(
        ids=np.zeros(n_tokens, np.int32),
        weights=np.ones(n_tokens, np.float32),
        offsets=np.array([0, n_tokens], np.int64),
    )


def _derive(
    spec: Spec, base: Base, n_tokens: int, has_validation: bool, machine: Machine = _LARGE
) -> Derived:
    rows = _rows(n_tokens)
    data = TrainingData(rows, rows if has_validation else None)
    return derive(spec, base, data, machine=machine)


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
        rules.learning_rate(_base(tmp_path, **{key: size}).hidden_size, "lora")
        for size in (64, 256, 1024, 4096)
        for key in ("hidden_size", "n_embd")
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == rates[1] > rates[2]
    assert rules.learning_rate(2000, "lora", objective="dpo") == 5e-4
    assert rules.learning_rate(2000, "full", objective="dpo") == 5e-5


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


@pytest.mark.parametrize(("hidden", "rank"), [(64, 8), (448, 8), (512, 16), (4096, 16)])
def test_little_data_gets_the_least_rank(hidden: int, rank: int, tmp_path: Path) -> None:
    base = _base(tmp_path, hidden_size=hidden)
    assert _derive(_spec(), base, 1000, True).strategy.describe()["rank"] == rank
    assert rules.rank(hidden) == rank


@given(
    hidden=st.integers(32, 8192),
    per_rank=st.integers(100, 10**7),
    n_learned=st.integers(0, 10**9),
)
def test_lora_has_room_for_what_is_learned(hidden: int, per_rank: int, n_learned: int) -> None:
    found = rules.rank(hidden, per_rank, n_learned)
    least = rules.rank(hidden)
    assert least <= found <= max(least, min(128, hidden // 4))
    assert found.bit_count() == 1, "a power of two"
    if 2 * found <= min(128, hidden // 4):
        assert found * per_rank >= 2 * n_learned
    if found > least:
        assert found * per_rank < 4 * n_learned, "no power of two too large"


def test_the_rank_follows_the_rows_of_the_user_alone(base: Base) -> None:
    def found(objective: str, n_tokens: int) -> int:
        spec = _spec(objective={"name": objective})
        rank: int = _derive(spec, base, n_tokens, True).strategy.describe()["rank"]
        return rank

    assert found("sft", 1000) < found("sft", 1_000_000) == found("pretrain", 1_000_000)
    assert found("dpo", 1_000_000) == found("sft", 1000)


def test_the_rank_counts_plain_matrices(base: Base) -> None:
    def found(**more: Any) -> int:
        spec = _spec(strategy={"name": "lora", **more})
        rank: int = _derive(spec, base, 40_000, True).strategy.describe()["rank"]
        return rank

    assert found() == found(dora=True) == found(rank_pattern={".*q_proj": 64})


@given(fewer=st.integers(1, 10**6), more=st.integers(1, 10**6))
def test_a_longer_run_learns_at_a_lower_rate(fewer: int, more: int) -> None:
    fewer, more = sorted((fewer, more))
    usual = rules.learning_rate(2000, "lora", objective="dpo")
    short, long = (rules.learning_rate(2000, "lora", steps=steps) for steps in (fewer, more))
    assert usual / 2 <= long <= short <= 1.5 * usual
    assert rules.learning_rate(2000, "lora", objective="dpo", steps=more) == usual


@pytest.mark.parametrize(
    ("strategy", "steps", "factor"),
    [
        ("lora", 1, 1.5),
        ("qlora", 240, 1.5),
        ("lora", 360, 1.0),
        ("full", 720, 0.5),
        ("full", 10_000, 0.5),
        ("bottleneck", 300, 1.0),
        ("bottleneck", 600, 0.5),
        ("prefix", 900, 1.0),
    ],
)
def test_how_the_rate_follows_the_steps(strategy: str, steps: int, factor: float) -> None:
    usual = rules.learning_rate(2000, strategy, objective="dpo")
    found = rules.learning_rate(2000, strategy, steps=steps)
    assert found == pytest.approx(usual * factor, rel=0.01)


@pytest.mark.parametrize(
    ("n_tokens", "objective", "expected"),
    [
        (30_720, "sft", 1024),
        (30_720, "dpo", 1536),
        (1_000_000, "sft", 2048),
        (1_000_000, "dpo", 8192),
        (10_000_000, "pretrain", 4992),
        (10**9, "sft", 8192),
    ],
)
def test_how_much_a_step_holds(n_tokens: int, objective: str, expected: int) -> None:
    assert rules.batch_tokens(n_tokens, "lora", objective) == expected


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


def test_a_prefix_takes_some_of_the_longest_row(tmp_path: Path) -> None:
    base = _base(tmp_path, max_position_embeddings=1024)
    assert longest_row(_spec(strategy={"name": "prefix", "tokens": 24}), base) == 1000


_LLAMA = {"vocab_size": 1000, "intermediate_size": 512, "num_key_value_heads": 2}
_SMALL = {**_LLAMA, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
_WIDE = {**_LLAMA, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}


def _room(folder: Path, free_bytes: int, sizes: dict[str, int], lengths: list[int]) -> Any:
    body, lora = Body(_base(folder, **sizes)), LoraSpec(name="lora", rank=8, alpha=16)
    machine = _machine(free_bytes)
    return find_room(body, lora, body.trainable(lora), machine, np.array(lengths), 8192)


def test_small_bases_compute_more_at_once_than_large_ones(tmp_path: Path) -> None:
    assert _room(tmp_path, 1 << 40, _SMALL, [100] * 99).micro_tokens == 2048
    large = {**_WIDE, "hidden_size": 4096, "intermediate_size": 16384, "num_attention_heads": 32}
    assert _room(tmp_path, 1 << 40, large, [100] * 99).micro_tokens == 512


def test_layers_are_recomputed_and_rows_made_shorter_where_memory_is_short(tmp_path: Path) -> None:
    whole = _room(tmp_path, 1 << 40, _WIDE, [300] * 99)
    assert not whole.recompute
    less = _room(tmp_path, round(whole.memory.total), _WIDE, [300] * 99)
    assert less.recompute
    assert less.micro_tokens == whole.micro_tokens
    assert less.memory.activations < whole.memory.activations / 2
    least = _room(tmp_path, 1, _WIDE, [300] * 99)
    assert 300 <= least.micro_tokens < whole.micro_tokens  # the longest row still goes in


def test_a_single_long_row_counts_with_its_whole_length(tmp_path: Path) -> None:
    short = _room(tmp_path, 1 << 40, _SMALL, [100] * 99).memory.total
    assert _room(tmp_path, 1 << 40, _SMALL, [100] * 99 + [9000]).memory.total > 1.5 * short


def test_auto_is_lora_and_four_bits_where_that_does_not_fit(tmp_path: Path) -> None:
    base = _base(tmp_path, **{**_WIDE, "intermediate_size": 8192, "num_hidden_layers": 48})
    lora = _derive(_spec(), base, 10_000, True)
    qlora = _derive(_spec(strategy="qlora"), base, 10_000, True)
    short = _derive(_spec(strategy="lora"), base, 10_000, True, _machine(1))
    assert lora.strategy.name == "lora"
    assert qlora.memory.weights < 0.3 * lora.memory.weights
    between = _machine(round((short.memory.total - 1) / 0.9))
    found = _derive(_spec(), base, 10_000, True, between)
    assert found.chosen.name == found.strategy.name == "qlora"
    assert found.quantization == "nf4"
    assert _origins(found)["strategy"] == ("qlora", "derived")
    # A run goes on with what it began with, however much is free by then.
    rows = _rows(10_000)
    for begun in ("lora", "qlora"):
        again = derive(_spec(), base, TrainingData(rows), machine=between, begun=begun)
        assert again.chosen.name == begun


def test_auto_is_full_where_lora_would_be_about_as_large_as_the_base(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "vocab_size": 1000}
    base = _base(tmp_path, **sizes)
    much = 500_000  # tokens to learn, for a base of 1.8M parameters
    found = _derive(_spec(), base, much, True)
    lora = _derive(_spec(strategy="lora"), base, much, True)
    assert lora.trainable.parameters > Body(base).n_parameters / 4
    assert found.chosen.name == "full"
    assert _origins(found)["strategy"] == ("full", "derived")
    assert _derive(_spec(), base, much // 50, True).chosen.name == "lora"
    # So it is only where it fits, where words are learned, and where nothing was begun otherwise.
    short = _derive(_spec(strategy="full"), base, much, True, _machine(1))
    tight = _machine(round((short.memory.total - 1) / 0.9))
    assert _derive(_spec(), base, much, True, tight).chosen.name == "lora"
    assert _derive(_spec(objective="dpo"), base, much, True).chosen.name == "lora"
    for begun in ("lora", "qlora", "full"):
        for n_tokens in (much, 1000):
            data = TrainingData(_rows(n_tokens))
            again = derive(_spec(), base, data, machine=_LARGE, begun=begun)
            assert again.chosen.name == begun


@pytest.mark.parametrize("name", ["lora", "qlora", "prefix", "bottleneck", "full"])
def test_what_is_settled_is_a_spec_that_derives_the_same(name: str, base: Base) -> None:
    found = _derive(_spec(strategy=name), base, 10_000, True)
    again = _derive(_spec(strategy=found.chosen.model_dump()), base, 10_000, True)
    assert "auto" not in found.chosen.model_dump().values()
    assert again.chosen == found.chosen
    assert again.strategy.describe() == found.strategy.describe()
    assert found.strategy.name == name


@pytest.mark.parametrize(("rank", "scale"), [(4, 2.0), (16, 2.0), (64, 0.5)])
def test_how_the_change_is_scaled(rank: int, scale: float, base: Base) -> None:
    for more, expected in (({}, scale), ({"rslora": True}, 2.0)):
        strategy = {"name": "lora", "rank": rank, **more}
        settings = _derive(_spec(strategy=strategy), base, 1000, True).strategy.settings  # type: ignore[attr-defined]
        assert settings.scale_of("a.q_proj") == pytest.approx(expected)


def test_the_schedule_is_passed_on(base: Base) -> None:
    found = _derive(_spec(training={"schedule": "constant"}), base, 10_000, True)
    assert found.settings.schedule == "constant"
    assert found.settings.learning_rate_at(99, 100) == found.settings.learning_rate


def test_sizes_that_make_no_sense_are_a_model_error(tmp_path: Path) -> None:
    base = _base(tmp_path, hidden_size=576)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": "many"}')
    with pytest.raises(ModelError, match="cannot load the base"):
        _derive(_spec(), base, 10_000, True)
