from dataclasses import replace

import pytest

from benchmarks.cells import Cell
from benchmarks.compare import Finalist, fastest, leanest, same_work, speed_ratio
from benchmarks.measure import Outcome
from tests.benchmarks.outcomes import outcome

OURS, TRL = Cell("ours"), Cell("trl")


def test_the_best_of_what_was_not_refused() -> None:
    found = [
        replace(outcome(TRL, 99, 1), work={"is_same": False}),
        outcome(OURS, 10, 5),
        outcome(OURS, 30, 9),
        outcome(OURS, 20, 2),
        Outcome(OURS, {}, "no"),
    ]
    assert fastest(found) is found[2]
    assert leanest(found) is found[3]
    assert fastest(found[4:]) is None
    assert leanest([]) is None


def test_medians_and_ratio() -> None:
    ours = Finalist(
        OURS, tuple(outcome(OURS, speed, peak) for speed, peak in [(20, 7), (90, 1), (30, 5)])
    )
    peer = Finalist(TRL, tuple(outcome(TRL, speed) for speed in (10, 15, 20)))
    assert (ours.speed, ours.peak) == (30, 5)
    assert speed_ratio(ours, peer) == {"ratio": 2.0, "rounds": [2.0, 6.0, 1.5]}


@pytest.mark.parametrize(
    ("losses", "is_same"),
    [((5.0, 4.0), True), ((5.0, 4.03), True), ((5.0, 4.05), False), ((5.0, float("nan")), False)],
)
def test_the_same_work_has_the_same_losses(losses: tuple[float, ...], is_same: bool) -> None:
    found = same_work(outcome(OURS), outcome(TRL, losses=losses))
    assert found["is_same"] is is_same
    assert found["steps"] == 2


def test_the_same_work_has_the_same_gradients() -> None:
    other = outcome(TRL)
    other.result["gradient_norms"] = [1.2, 1.2]
    assert not same_work(outcome(OURS), other)["is_same"]


def test_the_same_work_moves_the_weights_as_far() -> None:
    other = outcome(TRL)
    other.result["moved"] = 1.1
    assert not same_work(outcome(OURS), other)["is_same"]


def test_different_steps_do_not_compare() -> None:
    with pytest.raises(ValueError, match="longer"):
        same_work(outcome(OURS), outcome(TRL, losses=(5.0, 4.0, 3.0)))
