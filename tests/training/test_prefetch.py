"""Rows are packed one step ahead: the same rows, whoever is quicker."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from tests.training.small_run import DATA, ROWS, SETTINGS, run
from tunefork.models import collate
from tunefork.objectives import Sft
from tunefork.training import Plan
from tunefork.training import prefetch as prefetch_module
from tunefork.training.prefetch import Ahead

_CPU = torch.device("cpu")


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "tunefork" in thread.name]


def test_each_step_gets_the_rows_of_its_plan() -> None:
    plan = Plan(DATA, SETTINGS)
    narrow = SETTINGS.model_copy(update={"micro_tokens": 20})
    with Ahead(DATA, DATA.together(), _CPU, Sft().weight) as ahead:
        # Also out of order, twice, and cut smaller in between.
        for step, settings in [(0, SETTINGS), (1, SETTINGS), (1, narrow), (2, narrow), (9, narrow)]:
            found = ahead.take(step, settings, plan.steps)
            expected = Plan(DATA, settings).micro_batches(step)
            assert [chosen for chosen, _ in found.packed] == expected
            assert found.items == sorted(row for chosen in expected for row in chosen)
            for chosen, batch in found.packed:
                assert torch.equal(batch.ids, collate(ROWS, chosen).ids)
    assert _threads() == []


def test_the_next_step_is_packed_while_the_current_one_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed = threading.Semaphore(0)

    def watched(*arguments: Any) -> Any:
        packed.release()
        return collate(*arguments)

    monkeypatch.setattr(prefetch_module, "collate", watched)
    with Ahead(DATA, DATA.together(), _CPU, Sft().weight) as ahead:
        n_first = len(ahead.take(0, SETTINGS, 2).packed)
        n_next = len(Plan(DATA, SETTINGS).micro_batches(1))
        for _ in range(n_first + n_next):  # without anybody asking for step 1
            assert packed.acquire(timeout=60)


def test_an_error_in_the_thread_surfaces_and_the_thread_ends(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fails_later(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise LookupError("row 7")
        return collate(*arguments)

    monkeypatch.setattr(prefetch_module, "collate", fails_later)
    with pytest.raises(LookupError, match="row 7"):
        run(tmp_path)
    assert _threads() == []
