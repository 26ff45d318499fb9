"""Packed rows compute what separate documents compute, in every architecture."""

import pytest
import torch

from tests.small import CONFIGS, VOCABULARY, packed_model, plain_model
from tunefork.models import PackedLayout, run_on

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
