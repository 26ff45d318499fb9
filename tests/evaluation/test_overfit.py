"""Where held-out loss turned, and what came back word for word."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tunefork.evaluation import find_memorised, find_turn

_WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


def test_a_curve_that_falls_and_rises_turned_at_its_lowest_point() -> None:
    training = [(step, 3.0 - step / 100) for step in range(0, 200, 10)]
    turn = find_turn(training, [(0, 3.0), (100, 1.0), (150, 1.1), (190, 1.5)])
    assert turn is not None
    assert (turn.best_step, turn.last_step) == (100, 190)
    assert turn.rise == 0.5
    assert turn.training_fell


def test_training_that_exploded_did_not_learn_by_heart() -> None:
    training = [(step, 3.0 if step < 100 else 9.0) for step in range(0, 200, 10)]
    turn = find_turn(training, [(100, 1.0), (190, 1.5)])
    assert turn is not None
    assert turn.training_fell is False


def test_a_curve_that_ends_at_its_lowest_or_is_level_did_not_turn() -> None:
    assert find_turn([], [(0, 3.0), (100, 1.0)]) is None
    assert find_turn([], [(0, 1.0), (100, 1.005)]) is None
    assert find_turn([], []) is None
    assert find_turn([], [(0, math.nan)]) is None


def test_rows_that_came_back_whole_are_counted_whatever_their_spacing() -> None:
    found = find_memorised(
        [("one  two\nthree four five", "one two three four five"), ("no", "yes"), ("", "x y")]
    )
    assert found is not None
    assert (found.rows, found.exact, found.longest_words) == (3, 1, 5)
    assert found.longest_share == 1.0
    assert found.example == "one two three four five"
    assert found.as_dict()["share"] == 1 / 3


def test_short_runs_are_no_example_and_nothing_asked_is_nothing_found() -> None:
    found = find_memorised([("a b c d", "x b c d y")])
    assert found is not None
    assert (found.exact, found.longest_words, found.example) == (0, 3, "")
    assert find_memorised([]) is None


@given(_WORDS, _WORDS)
def test_the_longest_run_is_the_longest_that_stands_in_both(
    said: list[str], expected: list[str]
) -> None:
    found = find_memorised([(" ".join(said), " ".join(expected))])
    runs = [said[a:b] for a in range(len(said)) for b in range(a + 1, len(said) + 1)]
    shared = [
        len(run)
        for run in runs
        if any(expected[at : at + len(run)] == run for at in range(len(expected)))
    ]
    assert found is not None
    assert found.longest_words == max(shared, default=0)
