"""The gradient of a sample: of the user's rows alone, the same each time, and nothing moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small import packed_model, random_rows
from tests.training.small_run import SETTINGS
from tunefork.core.events import Event, Progress
from tunefork.data import TokenRows
from tunefork.models import collate, hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Full
from tunefork.training import SampleGradient, TrainingData, TrainStep

ROWS = random_rows(20)
STEP_SETTINGS = SETTINGS.model_copy(update={"micro_tokens": 64})


def _module() -> TrainStep:
    model = packed_model("llama")
    Full().attach(model, 0)
    return TrainStep(model, Sft(), STEP_SETTINGS)


def _gradients(module: TrainStep) -> dict[str, torch.Tensor]:
    found = {name: each.grad for name, each in module.named_parameters() if each.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def test_it_is_the_gradient_of_the_rows_and_nothing_moves() -> None:
    module, seen = _module(), list[Event]()
    before = hash_parameters(module.named_parameters())
    sample = SampleGradient(module, TrainingData(ROWS), STEP_SETTINGS, 2, seen.append)
    sample()
    first = _gradients(module)
    sample()
    again = _gradients(module)
    assert hash_parameters(module.named_parameters()) == before
    torch.autograd.backward(Sft().loss(module.model, collate(ROWS, range(20))).total)
    for name, expected in _gradients(module).items():
        assert torch.equal(first[name], again[name])
        torch.testing.assert_close(first[name], expected, atol=1e-4, rtol=1e-4)
    shares = [(event.done, event.total) for event in seen if isinstance(event, Progress)]
    assert len(shares) > 4, "several packed rows in each call"
    assert shares == [(at + 1, len(shares)) for at in range(len(shares))]


def test_rows_that_are_replayed_are_not_asked() -> None:
    found = []
    for replay in (None, random_rows(9, seed=3)):
        module = _module()
        data = replace(TrainingData(ROWS), replay=replay, n_replayed=0 if replay is None else 9)
        SampleGradient(module, data, STEP_SETTINGS, 1, lambda event: None)()
        found.append(_gradients(module))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(("n_rows", "longest"), [(500, 20), (40, 4000), (1, 30_000)])
def test_a_sample_is_small(n_rows: int, longest: int) -> None:
    ids = np.zeros(n_rows * longest, np.int32)
    offsets = np.arange(n_rows + 1, dtype=np.int64) * longest
    rows = TokenRows(ids, np.ones(len(ids), np.float32), offsets)
    sample = SampleGradient(_module(), TrainingData(rows), STEP_SETTINGS, 1, lambda event: None)
    chosen = [row for packed in sample.packed for row in packed]
    assert len(set(chosen)) == len(chosen) == max(1, min(64, n_rows, 16384 // longest))
