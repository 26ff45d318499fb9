"""Rows that begin alike share what they begin with, and nothing else changes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.small import packed_model
from tunefork.data.tokens import TokenRows
from tunefork.models import collate, losses_on, pack
from tunefork.models.prefix import share_beginnings
from tunefork.strategies import Lora, LoraSettings

# Rows as paths through a tree of stretches, so that they branch, repeat and end anywhere.
_STRETCHES = [np.random.default_rng(seed).integers(4, 97, 3 + seed * 9) for seed in range(5)]
_PATHS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1, max_size=7)


def _rows(paths: list[list[int]]) -> TokenRows:
    parts = [np.concatenate([_STRETCHES[at] for at in path]).astype(np.int32) for path in paths]
    weights = [(np.arange(len(part)) % 3 > 0).astype(np.float32) for part in parts]
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    return TokenRows(np.concatenate(parts), np.concatenate(weights), offsets)


@given(_PATHS)
def test_stretches_put_every_row_together_again(paths: list[list[int]]) -> None:
    rows = _rows(paths)
    ids = [rows.row(number)[0] for number in range(len(rows))]
    stretches = share_beginnings(ids)
    assert sorted(s.rows[0] for s in stretches if len(s.rows) == 1) == list(range(len(rows)))
    for stretch in stretches:
        chain = [stretch]
        while chain[0].parent >= 0:
            chain.insert(0, stretches[chain[0].parent])
        for row in stretch.rows:
            found = np.concatenate([ids[part.rows[0]][part.begin : part.end] for part in chain])
            assert np.array_equal(found, ids[row][: stretch.end])
        if len(stretch.rows) == 1:
            assert stretch.end == len(ids[stretch.rows[0]])


@pytest.mark.parametrize(
    "paths",
    [
        [[4, 0], [4, 1], [4, 2]],
        [[4, 3, 0], [4, 3, 1], [4, 2, 0], [4, 2, 3], [1, 1]],
        [[4], [4], [4, 0], [2, 2]],
        [[0], [1]],
    ],
)
def test_losses_and_gradients_are_those_of_rows_apart(paths: list[list[int]]) -> None:
    model, strategy = packed_model("llama"), Lora(LoraSettings(rank=2))
    strategy.attach(model, seed=0)
    weights = list(strategy.parameters(model).values())
    for weight in weights:
        weight.data.normal_(0, 0.1)
    rows = _rows(paths)
    shared, apart = (collate(rows, range(len(rows)), shares=shares) for shares in (True, False))
    assert shared.n_tokens == len(apart.ids)
    found, wanted = losses_on(model, shared), losses_on(model, apart)
    assert torch.equal(shared.documents, apart.documents)
    assert torch.equal(shared.targets, apart.targets)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    one = torch.autograd.grad((found * shared.weights).sum(), weights)
    other = torch.autograd.grad((wanted * apart.weights).sum(), weights)
    for a, b in zip(one, other, strict=True):
        # Sums of other lengths round otherwise, on some processors more: 1.1e-5 of the largest
        # in float32, 1e-7 with weights in float64, where a fault would stay.
        torch.testing.assert_close(a, b, atol=5e-5 * float(b.abs().max()), rtol=0)


def test_a_shared_beginning_is_computed_once() -> None:
    rows = _rows([[4, 0], [4, 1], [4, 2]])
    assert len(collate(rows, range(3)).ids) == len(_STRETCHES[4]) + sum(map(len, _STRETCHES[:3]))


def test_equal_beginnings_too_short_to_pay_stay_apart() -> None:
    rows = _rows([[0, 1], [0, 2]])  # three tokens alike
    assert len(collate(rows, range(2)).ids) == rows.n_tokens


def test_rows_that_begin_alike_are_packed_together() -> None:
    rows = _rows([[4, 0], [3, 1], [4, 1], [3, 0]])
    batches = pack(rows, range(4), len(_STRETCHES[4]) + 15)
    assert batches[0] == [2, 0]
    assert sorted(itertools.chain(*batches)) == [0, 1, 2, 3]


@given(_PATHS, st.integers(1, 200))
def test_packing_loses_no_row_and_keeps_to_the_limit(paths: list[list[int]], limit: int) -> None:
    rows = _rows(paths)
    batches = pack(rows, range(len(rows)), limit)
    assert sorted(itertools.chain(*batches)) == list(range(len(rows)))
    for chosen in batches:
        shared = len(_STRETCHES[4]) * 4  # at most, of the rows that a batch begins with
        assert len(chosen) == 1 or len(collate(rows, chosen).ids) <= limit + shared
