"""Memory by arithmetic: the sizes that a config gives, and what follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.profiler import ProfilerActivity, profile

from tunefork.data import TokenRows
from tunefork.models import Base, adapt_model, collate
from tunefork.models.memory import Shape, activation_bytes, activation_bytes_per_token, head_bytes
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings


def test_sizes_have_several_names() -> None:
    llama = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    gpt2 = {"n_embd": 64, "n_layer": 2, "n_head": 4}
    assert Shape.of(llama) == Shape.of(gpt2)
    assert Shape.of({**llama, "num_key_value_heads": 2}).key == 32
    assert Shape.of({**llama, "head_dim": 32}).query == 128


@pytest.mark.parametrize("value", ["many", -1, None, 0, 2.5])
def test_sizes_that_make_no_sense_count_as_not_given(value: Any) -> None:
    assert Shape.of({"num_hidden_layers": value}) == Shape.of({})
    assert activation_bytes_per_token({"hidden_size": value}) > 0


def test_long_rows_keep_no_attention_weights() -> None:
    shape = Shape.of({})
    short, long = activation_bytes(shape, [256], 2) / 256, activation_bytes(shape, [257], 2) / 257
    assert short > long
    wide = activation_bytes(shape, [256], 4)
    assert wide == 2 * activation_bytes(shape, [256], 2)
    assert activation_bytes(shape, [256], 2, keeps_inputs=False) < activation_bytes(shape, [256], 2)
    assert activation_bytes(shape, [256], 2, n_learned=9) > activation_bytes(shape, [256], 2)


def test_logits_take_a_chunk_however_many_there_are() -> None:
    shape = Shape.of({"vocab_size": 50_000, "hidden_size": 64})
    some, more = (head_bytes(shape, n, 2, trains=False) for n in (10_000, 20_000))
    assert more - some == 3 * 10_000 * 64 * 2
    assert head_bytes(shape, 10_000, 2, trains=True) - some == 2 * 50_000 * 64 * 2


def test_the_arithmetic_is_what_a_forward_pass_keeps() -> None:
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = adapt_model(
        transformers.AutoModelForCausalLM.from_config(config), Base("wide", Path("wide"))
    )
    Lora(LoraSettings(rank=1)).attach(model, 0)
    count, length = 20, 128
    rows = TokenRows(
        ids=np.random.default_rng(0).integers(0, 97, count * length).astype(np.int32),
        weights=np.ones(count * length, np.float32),
        offsets=np.arange(0, (count + 1) * length, length),
    )
    batch = collate(rows, range(count))
    expected = activation_bytes(Shape.of(config.to_dict()), [length] * count, 4)
    Sft().loss(model, batch)  # tables of the layout are made once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss = Sft().loss(model, batch)
    assert torch.isfinite(loss.total)
    events = seen.profiler.kineto_results.events()
    kept = sum(event.nbytes() for event in events if event.name() == "[memory]")
    assert kept == pytest.approx(expected, rel=0.1)
