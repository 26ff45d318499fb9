"""What the base makes of rows is computed once, kept, and never taken for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.objectives.cases import random_pairs
from tests.small import packed_model
from tunefork.core.events import Event, Progress, Warned, no_sink
from tunefork.core.files import home
from tunefork.data import Items
from tunefork.models import collate
from tunefork.models.log_probs import row_log_probs
from tunefork.objectives import REFERENCE, reference, with_reference

_BASE = {"base": "sha256:00"}


def _column(items: Items, model: Any, identity: Any = None, sink: Any = no_sink) -> Any:
    return with_reference(model, items, identity or _BASE, "rows", sink).columns[REFERENCE]


def _folders() -> list[Path]:
    return sorted((home() / "cache" / "reference").iterdir())


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_BLOCK_TOKENS", 150)


def _count_computed(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    computed: list[range] = []
    compute = reference._compute

    def counted(model: Any, items: Items, chosen: range) -> Any:
        computed.append(chosen)
        return compute(model, items, chosen)

    monkeypatch.setattr(reference, "_compute", counted)
    return computed


def test_it_is_the_log_probability_of_each_row() -> None:
    items, model = random_pairs(12), packed_model("llama")
    seen: list[Event] = []
    found = _column(items, model, sink=seen.append)
    with torch.no_grad():
        for row in range(len(items.rows)):
            alone = row_log_probs(model, collate(items.rows, [row])).sums
            assert found[row] == pytest.approx(alone.item(), rel=1e-5)
    told = [event for event in seen if isinstance(event, Progress)]
    assert len(told) > 2
    assert told[-1].done == told[-1].total == 12


def test_it_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = _count_computed(monkeypatch)
    items, model = random_pairs(12), packed_model("llama")
    first = _column(items, model)
    n_blocks = len(computed)
    assert n_blocks > 2
    assert [number for chosen in computed for number in chosen] == list(range(12))
    assert (_column(items, packed_model("llama")) == first).all()
    assert len(computed) == n_blocks


def test_whatever_decides_it_makes_another() -> None:
    items, model = random_pairs(4), packed_model("llama")
    _column(items, model)
    _column(items, model, {"base": "sha256:01"})
    _column(random_pairs(4, seed=1), model)
    _column(items, model.bfloat16())
    assert len(_folders()) == 4


def test_a_computation_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    items, model = random_pairs(12), packed_model("llama")
    expected = _column(items, model)
    for path in sorted(_folders()[0].iterdir())[2:]:
        path.unlink()
    computed = _count_computed(monkeypatch)
    assert (_column(items, model) == expected).all()
    assert computed[0].start > 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_damaged_values_are_noticed_and_computed_again(
    damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, model = random_pairs(12), packed_model("llama")
    expected = _column(items, model)
    path = sorted(_folders()[0].iterdir())[1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"flipped": bytes(data), "cut": bytes(data[:-4]), "empty": b""}[damage])
    computed = _count_computed(monkeypatch)
    assert (_column(items, model) == expected).all()
    assert len(computed) == 1


def test_where_nothing_can_be_kept_it_goes_on_with_a_warning() -> None:
    (home() / "cache").mkdir(parents=True)
    (home() / "cache" / "reference").write_text("in the way")
    seen: list[Event] = []
    found = _column(random_pairs(4), packed_model("llama"), sink=seen.append)
    assert np.isfinite(found).all()
    assert any("cannot keep" in event.message for event in seen if isinstance(event, Warned))
