from itertools import chain

import numpy as np
import pytest

from benchmarks.cells import CONTESTANTS, grid, variations
from benchmarks.workloads import MATH, SUPPORT, SYSTEM, Order, batch_sweep, length_sweep, make_steps


def test_both_orders_hold_the_same_rows() -> None:
    steps = make_steps(SUPPORT, 1000, counted=6)
    assert sorted(chain(*steps.plain)) == sorted(chain(*steps.grouped))
    assert steps.plain[: steps.warm_up] == steps.grouped[: steps.warm_up]
    assert len(steps.plain) == steps.warm_up + 6
    assert {len(step) for step in steps.plain} == {8}


def test_grouped_rows_are_of_one_length() -> None:
    steps = make_steps(MATH, 1000, counted=6)

    def padding(order: Order) -> int:
        lengths = steps.rows.lengths
        return sum(int(lengths[step].max() * 8 - lengths[step].sum()) for step in steps.of(order))

    assert padding("grouped") < padding("plain") / 3


def test_a_seed_makes_the_same_rows() -> None:
    first, second = make_steps(SUPPORT, 1000, 3), make_steps(SUPPORT, 1000, 3)
    assert np.array_equal(first.rows.ids, second.rows.ids)
    assert first.plain == second.plain


def test_ids_fit_the_vocabulary_and_some_are_frequent() -> None:
    ids = make_steps(SUPPORT, 200, counted=1).rows.ids
    assert ids.min() >= 4
    assert ids.max() < 200
    assert np.bincount(ids).max() > 5 * np.bincount(ids).mean()


def test_a_system_prompt_is_shared_and_not_trained() -> None:
    rows = make_steps(SYSTEM, 1000, counted=1).rows
    first = rows.row(0)[0][:200]
    assert all(rows.row(i)[0][:200] == first for i in range(len(rows.lengths)))
    assert rows.prompts.min() > 200
    ids, labels = rows.row(3)
    prompt = int(rows.prompts[3])
    assert set(labels[:prompt]) == {-100}
    assert labels[prompt:] == ids[prompt:]


def test_sweeps() -> None:
    assert [w.rows_per_step for w in batch_sweep(SUPPORT)] == [4, 8, 16, 32]
    rows = make_steps(length_sweep(SUPPORT)[0], 1000, counted=1).rows
    assert set(rows.lengths.tolist()) == {64}


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_the_grid(contestant: str) -> None:
    cells = grid(contestant)
    assert len({cell.name for cell in cells}) == 8
    axes = variations(contestant, ["tcmalloc"], is_quick=False)
    assert {"allocator": "tcmalloc"} in axes[-1]
    assert ([{"is_packed": True}] in axes) == (contestant != "ours")
