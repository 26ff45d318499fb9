"""Packed rows compute what separate documents compute, in every architecture."""

from typing import Any

import pytest
import torch

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model, random_rows
from tunefork.models import Batch, PackedLayout, collate, run_on
from tunefork.objectives import Sft

LENGTHS = ([11, 3, 17, 12], [9, 9, 9], [1, 30, 2, 29, 1])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_rows_equal_separate_documents(name: str, dtype: torch.dtype) -> None:
    packed, plain = packed_model(name).to(dtype), plain_model(name).to(dtype)
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    for lengths in LENGTHS:
        documents = [torch.randint(0, VOCABULARY, (length,)) for length in lengths]
        logits = run_on(packed, torch.cat(documents), PackedLayout(lengths))
        expected = torch.cat([plain(d[None], use_cache=False).logits[0] for d in documents])
        torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


def test_logits_only_where_asked() -> None:
    model, ids = packed_model("llama"), torch.arange(12)
    layout, keep = PackedLayout([5, 7]), torch.tensor([2, 3, 9])
    torch.testing.assert_close(
        run_on(model, ids, layout, keep), run_on(model, ids, layout)[keep], atol=1e-6, rtol=1e-6
    )


def test_long_rows_end_with_filling_that_changes_nothing() -> None:
    model, rows = packed_model("llama").requires_grad_(True), random_rows(90, longest=12)
    together = collate(rows, range(90))
    few = [collate(rows, range(start, start + 9)) for start in range(0, 90, 9)]
    assert len(together.ids) % 64 == 0 < len(together.ids) - together.n_tokens
    assert all(len(batch.ids) == batch.n_tokens for batch in few)
    losses = [_loss_of(model, batch) for batch in few]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.testing.assert_close(
        _loss_of(model, together), torch.stack(losses).sum(), atol=1e-5, rtol=1e-4
    )
    for parameter, expected in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, expected, atol=1e-5, rtol=1e-4)


def _loss_of(model: Any, batch: Batch) -> torch.Tensor:
    loss = Sft().loss(model, batch).total
    torch.autograd.backward(loss)
    return loss.detach()
