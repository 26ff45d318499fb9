"""Attention over packed rows equals its slow reference, gradients included."""

import pytest
import torch

from tunefork.models import PackedLayout, Segment
from tunefork.models.attention import AttentionSettings
from tunefork.models.grouped import attend, attend_slowly
from tunefork.models.groups import Groups

LAYOUTS = {
    "one": [Segment(1)],
    "odd": [Segment(5), Segment(7), Segment(3), Segment(31), Segment(33)],
    "equal": [Segment(64), Segment(64)],
    "long": [Segment(300), Segment(700)],  # longer than a block, weights not kept
    "prefix": [Segment(20), Segment(7, 0), Segment(9, 0), Segment(5)],
    "tree": [
        Segment(40),
        Segment(30, 0),
        Segment(5, 1),
        Segment(300, 1),
        Segment(6, 0),
        Segment(280, 4),
    ],
    "long prefix": [Segment(600), Segment(4, 0), Segment(4, 0)],
}


def _groups(segments: list[Segment]) -> Groups:
    groups = PackedLayout(segments).groups
    assert groups.n_tokens == sum(part.length for part in segments)
    return groups


@pytest.mark.parametrize("window", [None, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAYOUTS)
def test_equals_the_reference(name: str, dtype: torch.dtype, window: int | None) -> None:
    groups = _groups(LAYOUTS[name])
    torch.manual_seed(0)
    shapes = ((groups.n_tokens, 6, 16), (groups.n_tokens, 2, 16), (groups.n_tokens, 2, 8))
    states = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    settings = AttentionSettings(layer=0, scaling=0.3, window=window)
    gradient = torch.randn(groups.n_tokens, 6, 8).to(dtype)
    mixed = attend(*states, groups=groups, settings=settings)
    exact = [state.detach().double().requires_grad_() for state in states]
    expected = attend_slowly(*exact, groups=groups, settings=settings)
    tolerance = 5e-6 if dtype == torch.float32 else 3e-2
    pairs = zip(
        (mixed, *torch.autograd.grad(mixed, states, gradient)),
        (expected, *torch.autograd.grad(expected, exact, gradient.double())),
        strict=True,
    )
    for found, wanted in pairs:
        scale = max(1.0, float(wanted.detach().abs().max()))
        torch.testing.assert_close(found.double(), wanted, atol=tolerance * scale, rtol=tolerance)


def test_padding_and_other_documents_have_no_say() -> None:
    groups = _groups([Segment(5), Segment(7), Segment(6)])
    states = [torch.randn(18, 2, 8) for _ in range(3)]
    settings = AttentionSettings(layer=0, scaling=0.3)
    before = attend(*states, groups=groups, settings=settings)
    for state in states:
        state[5:12] = float("nan")  # the second document
    after = attend(*states, groups=groups, settings=settings)
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[12:], after[12:])


@pytest.mark.parametrize("settings", [{"softcap": 2.0}, {"dropout": 0.5}])
def test_what_the_fast_path_cannot_do_runs_slowly(settings: dict[str, float]) -> None:
    groups = _groups([Segment(5), Segment(3, 0)])
    states = [torch.randn(8, 2, 8) for _ in range(3)]
    asked = AttentionSettings(layer=0, scaling=0.3, **settings)  # type: ignore[arg-type]
    torch.manual_seed(1)
    mixed = attend(*states, groups=groups, settings=asked)
    torch.manual_seed(1)
    assert torch.equal(mixed, attend_slowly(*states, groups=groups, settings=asked))


def test_a_segment_continues_only_what_stands_before_it() -> None:
    with pytest.raises(ValueError, match="continues 1"):
        PackedLayout([Segment(3), Segment(2, 1)])


def test_positions_go_on_from_what_a_segment_continues() -> None:
    layout = PackedLayout([Segment(3), Segment(2, 0), Segment(2, 1), Segment(1)])
    assert layout.positions.tolist() == [[0, 1, 2, 3, 4, 5, 6, 0]]
