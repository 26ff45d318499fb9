"""A learned prefix is what a shared beginning is, without tokens of its own."""

import pytest
import torch
from torch import nn

from tests.small import VOCABULARY, packed_model
from tunefork.models import PackedLayout, Segment, run_on
from tunefork.models.attention import AttentionSettings
from tunefork.models.grouped import attend_slowly
from tunefork.models.roots import Roots, States, prefix_length, roots_of

HEADS, KEY_HEADS, SIZE = 6, 2, 8


class Learned(nn.Module):
    """A prefix of given keys and values, the same in each layer."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor) -> None:
        super().__init__()
        self.key, self.value = nn.Parameter(key), nn.Parameter(value)
        self.n_tokens, self.is_enabled = len(key), True

    def states(self) -> list[States]:
        return [(self.key, self.value)]


TREES = {
    "documents": [Segment(5), Segment(1), Segment(37)],
    "tree": [Segment(20), Segment(7, 0), Segment(9, 0), Segment(5), Segment(4, 2), Segment(300, 3)],
}


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 13, 40])
@pytest.mark.parametrize("name", TREES)
def test_equals_a_beginning_that_all_documents_share(
    name: str, length: int, dtype: torch.dtype, window: int | None, softcap: float | None
) -> None:
    torch.manual_seed(0)
    segments = TREES[name]
    n_tokens = sum(segment.length for segment in segments)
    # The reference has the prefix as the row's first tokens, whose own results nobody reads.
    shared = [Segment(length), *(Segment(s.length, s.parent + 1) for s in segments)]
    states = [
        torch.randn(length + n_tokens, heads, SIZE).to(dtype) for heads in (HEADS, KEY_HEADS, 2)
    ]
    exact = [part.double().requires_grad_() for part in states]
    settings = AttentionSettings(layer=0, scaling=0.3, window=window, softcap=softcap)
    wanted = attend_slowly(*exact, groups=PackedLayout(shared).groups, settings=settings)[length:]

    query, key, value = (part[length:].clone().requires_grad_() for part in states)
    prefix = Learned(states[1][:length].float(), states[2][:length].float())
    roots = Roots()
    roots.put(1, prefix)
    layout = PackedLayout(segments).behind(roots)
    found = layout.attend(
        query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), settings
    )

    gradient = torch.randn(n_tokens, HEADS, SIZE).to(dtype)
    d_found = torch.autograd.grad(found, [query, key, value, prefix.key, prefix.value], gradient)
    d_query, d_key, d_value = torch.autograd.grad(wanted, exact, gradient.double())
    d_wanted = [
        d_query[length:],
        d_key[length:],
        d_value[length:],
        d_key[:length],
        d_value[:length],
    ]
    tolerance = 5e-6 if dtype == torch.float32 else 4e-2
    for one, other in zip((found, *d_found), (wanted, *d_wanted), strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one.double(), other, atol=tolerance * scale, rtol=tolerance)


def test_positions_begin_behind_the_prefix_of_the_documents_adapter() -> None:
    roots = Roots()
    roots.put(1, Learned(torch.ones(3, 1, 1), torch.ones(3, 1, 1)))
    roots.put(4, Learned(torch.ones(2, 1, 1), torch.ones(2, 1, 1)))
    bare = PackedLayout([Segment(2), Segment(2, 0), Segment(3, adapter=0), Segment(2, adapter=4)])
    layout = bare.behind(roots)
    assert layout.positions.tolist() == [[3, 4, 5, 6, 0, 1, 2, 2, 3]]
    assert bare.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    assert layout.adapters is not None
    assert layout.adapters.tolist() == [1, 1, 1, 1, 0, 0, 0, 4, 4]
    # Where no document of it is in the row, nothing changes.
    base_only = PackedLayout([Segment(2, adapter=0)])
    assert base_only.behind(roots) is base_only


def test_a_row_of_the_first_adapter_alone_is_not_routed() -> None:
    assert PackedLayout([Segment(2), Segment(3, 0)]).adapters is None


def test_documents_of_different_adapters_share_nothing() -> None:
    with pytest.raises(ValueError, match="another adapter"):
        PackedLayout([Segment(3), Segment(2, 0, adapter=2)])


def test_a_prefix_switched_off_or_taken_away_is_not_there() -> None:
    model = packed_model("llama")
    ids = torch.arange(4, 13) % VOCABULARY
    bare = run_on(model, ids, PackedLayout([9]))
    states = torch.randn(5, 2, 8)
    prefix = Learned(states, states)
    prefix.states = lambda: [(prefix.key, prefix.value)] * 2  # type: ignore[method-assign]
    roots_of(model).put(1, prefix)
    assert prefix_length(model, 1) == 5
    assert not torch.equal(run_on(model, ids, PackedLayout([9])), bare)
    prefix.is_enabled = False
    assert prefix_length(model, 1) == 0
    assert torch.equal(run_on(model, ids, PackedLayout([9])), bare)
    prefix.is_enabled = True
    roots_of(model).take(1)
    assert torch.equal(run_on(model, ids, PackedLayout([9])), bare)
