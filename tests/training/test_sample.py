"""The gradient of a sample: of the user's rows alone, the same each time, and nothing moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.small import packed_model, random_rows
from tests.training.small_run import SETTINGS, Spoiled, messages
from tunefork.core.events import Event, Progress, Warned
from tunefork.data import TokenRows
from tunefork.models import Batch, collate, hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Full
from tunefork.training import SampleGradient, TrainingData, TrainStep

ROWS = random_rows(20)
# So many epochs that all rows are a small part of the training.
STEP_SETTINGS = SETTINGS.model_copy(update={"micro_tokens": 64, "epochs": 100})


def _module(objective: Sft | None = None) -> TrainStep:
    model = packed_model("llama")
    Full().attach(model, 0)
    return TrainStep(model, objective or Sft(), STEP_SETTINGS)


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


def test_what_does_not_fit_is_cut_and_begun_again() -> None:
    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        if batch.n_tokens > 30:
            raise MemoryError
        return loss

    found = []
    for objective in (Sft(), Spoiled(spoil)):
        module, seen = _module(objective), list[Event]()
        sample = SampleGradient(module, TrainingData(ROWS), STEP_SETTINGS, 1, seen.append)
        sample()
        found.append(_gradients(module))
    assert sample.settings.micro_tokens == 32 // 2
    assert any("memory ran out" in message for message in messages(seen, Warned))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4, rtol=1e-4)


def test_a_row_whose_loss_is_no_number_is_left_out() -> None:
    longest = int(ROWS.lengths.max())

    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        return loss * float("nan") if batch.n_tokens >= longest else loss

    alone = STEP_SETTINGS.model_copy(update={"micro_tokens": 1})  # each row by itself
    module = _module(Spoiled(spoil))
    SampleGradient(module, TrainingData(ROWS), alone, 1, lambda event: None)()
    gradients = _gradients(module)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    others = np.flatnonzero(ROWS.lengths < longest)
    torch.autograd.backward(Sft().loss(module.model, collate(ROWS, others.tolist())).total)
    for name, expected in _gradients(module).items():
        torch.testing.assert_close(gradients[name], expected, atol=1e-4, rtol=1e-4)


def test_rows_that_are_replayed_are_not_asked() -> None:
    found = []
    for replay in (None, random_rows(9, seed=3)):
        module = _module()
        data = replace(TrainingData(ROWS), replay=replay, n_replayed=0 if replay is None else 9)
        SampleGradient(module, data, STEP_SETTINGS, 1, lambda event: None)()
        found.append(_gradients(module))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("n_rows", "longest", "epochs", "count"),
    [(5000, 20, 1, 64), (500, 20, 1, 12), (400, 4000, 1, 4), (40, 20, 40, 40), (1, 30_000, 1, 1)],
)
def test_a_sample_is_small(n_rows: int, longest: int, epochs: int, count: int) -> None:
    ids = np.zeros(n_rows * longest, np.int32)
    offsets = np.arange(n_rows + 1, dtype=np.int64) * longest
    rows = TokenRows(ids, np.ones(len(ids), np.float32), offsets)
    settings = STEP_SETTINGS.model_copy(update={"epochs": epochs})
    sample = SampleGradient(_module(), TrainingData(rows), settings, 2, lambda event: None)
    chosen = [row for packed in sample.packed for row in packed]
    assert len(set(chosen)) == len(chosen) == count
    tokens = 2 * count * longest
    assert count == 1 or tokens <= 0.05 * epochs * rows.n_tokens
