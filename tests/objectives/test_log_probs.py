"""Log-probabilities by chunks against those of all logits at once, gradients included."""

from __future__ import annotations

import pytest
import torch

from tests.small import packed_model, random_rows
from tunefork.models import collate
from tunefork.models.fused import log_probs as fused
from tunefork.models.fused.log_probs import log_probabilities
from tunefork.models.log_probs import row_log_probs
from tunefork.models.run import losses_on

_TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", list(_TOLERANCE))
@pytest.mark.parametrize("trains_head", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 4 * 31 * 4, 32 << 20])
def test_log_probabilities_are_those_of_all_logits(
    dtype: torch.dtype, trains_head: bool, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_CHUNK_BYTES", chunk_bytes)
    random = torch.Generator().manual_seed(3)
    hidden = torch.randn(11, 16, generator=random).to(dtype).requires_grad_()
    head = torch.randn(31, 16, generator=random).to(dtype).requires_grad_(trains_head)
    targets = torch.randint(31, (11,), generator=random)
    upstream = torch.randn(11, generator=random)  # each place weighs something else
    inputs = [hidden, head] if trains_head else [hidden]

    found = log_probabilities(hidden, head, targets)
    gradients = torch.autograd.grad(found, inputs, upstream)
    exact = (hidden.double() @ head.double().T).log_softmax(dim=1)
    expected = exact.gather(1, targets.unsqueeze(1)).squeeze(1)
    exact_gradients = torch.autograd.grad(expected, inputs, upstream.double())

    assert found.dtype == torch.float32
    tolerance = _TOLERANCE[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=10 * tolerance)
    for one, other in zip(gradients, exact_gradients, strict=True):
        assert one.dtype == dtype
        size = float(other.double().abs().max())
        torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=5 * tolerance * size)


@pytest.mark.parametrize("name", ["llama", "gemma2"])  # a plain head, and one with capped logits
def test_rows_sum_up_what_their_tokens_weigh(name: str) -> None:
    model, rows = packed_model(name), random_rows(5)
    rows.weights[rows.weights > 0] = 0.5
    batch = collate(rows, range(5))
    found = row_log_probs(model, batch)
    single = torch.stack(
        [
            -(losses_on(model, alone) * alone.weights).sum()
            for alone in (collate(rows, [row]) for row in range(5))
        ]
    )
    torch.testing.assert_close(found.sums, single, rtol=1e-5, atol=1e-5)
    assert found.weights.tolist() == [rows.row(row)[1].sum() for row in range(5)]
    torch.testing.assert_close(found.means, found.sums / found.weights)


def test_a_row_that_predicts_nothing_has_a_log_probability_of_nothing() -> None:
    rows = random_rows(3)
    rows.row(1)[1][:] = 0
    found = row_log_probs(packed_model("llama"), collate(rows, range(3)))
    assert found.sums[1] == found.means[1] == found.weights[1] == 0
