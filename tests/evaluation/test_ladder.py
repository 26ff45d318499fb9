"""The ladder as data: intervals, tests, their correction, and what is recommended of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from scipy.stats import false_discovery_control

from tunefork.evaluation import (
    RUNGS,
    Climbed,
    Cost,
    GateSettings,
    Ladder,
    Prices,
    Recommendation,
    break_even,
    build_ladder,
    holm,
    paired_test,
    recommend,
    standing,
)
from tunefork.graders import Grade

_SETTINGS = GateSettings()
_GROUPS = [f"fact {at // 2}" for at in range(80)]


def _climbed(name: str, right: Sequence[bool], seconds: float = 0.1) -> Climbed:
    grades = tuple(Grade(float(each), each, "") for each in right)
    return Climbed(name, ("",) * len(right), grades, Cost(10, 20, seconds), "none")


def _first(share: float, count: int = 80) -> list[bool]:
    """Answer the first questions right."""
    return [at < share * count for at in range(count)]


def _ladder(shares: Mapping[str, float]) -> Ladder:
    return build_ladder(
        [_climbed(name, _first(share)) for name, share in shares.items()], _GROUPS, 0.95
    )


def _recommended(
    shares: Mapping[str, float], ruled_out: Mapping[str, str] | None = None
) -> Recommendation:
    return recommend(_ladder(shares), _SETTINGS, ruled_out)


def test_each_rung_is_tested_against_the_base_and_the_best_before_it() -> None:
    ladder = _ladder({"tuned": 0.8, "base": 0.1, "prompt": 0.5, "retrieval": 0.3})
    assert [rung.name for rung in ladder.rungs] == ["base", "prompt", "retrieval", "tuned"]
    base, prompt, retrieval, tuned = ladder.rungs
    assert base.over_base is None
    assert base.over_cheaper is None
    assert prompt.over_base is prompt.over_cheaper
    assert retrieval.over_cheaper is not None
    assert retrieval.over_cheaper.other == "prompt"
    assert retrieval.over_cheaper.paired.gain == pytest.approx(-0.2)
    assert tuned.over_base is not None
    assert tuned.over_cheaper is not None
    assert tuned.over_cheaper.other == "prompt"
    assert tuned.over_cheaper.paired == paired_test(
        prompt.climbed.scores, tuned.climbed.scores, _GROUPS, 0.95
    )
    assert tuned.over_base.p_value >= tuned.over_base.paired.p_value
    assert tuned.score.mean == pytest.approx(0.8)


def test_holm_is_less_strict_than_bonferroni_and_stricter_than_false_discovery() -> None:
    values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm({}) == {}
    assert holm(values) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    discovered = false_discovery_control(list(values.values()))
    assert (discovered <= list(holm(values).values())).all()


def test_the_cheapest_that_the_best_does_not_surely_beat_is_taken() -> None:
    assert _recommended({"base": 0.1, "prompt": 0.8, "tuned": 0.8}).rung == "prompt"
    # A question of 80 more is less than the five points that are asked for.
    close = _recommended({"base": 0.1, "prompt": 0.8, "tuned": 0.8125})
    assert close.rung == "prompt"
    assert "less than the 5.0 that you ask for" in close.reason
    chance = _recommended({"base": 0.1, "prompt": 0.75, "tuned": 0.825})
    assert chance.rung == "prompt"
    assert "may be chance" in chance.reason
    assert _recommended({"base": 0.1, "prompt": 0.3, "tuned": 0.9}).rung == "tuned"
    assert _recommended({"base": 0.0, "prompt": 0.1, "retrieval": 0.7}).rung == "retrieval"
    both = _recommended({"base": 0, "retrieval": 0.4, "tuned": 0.4, "tuned+retrieval": 0.9})
    assert both.reason.startswith("Retrieval for the facts, tuning for the voice: ")


def test_what_is_ruled_out_is_not_taken_and_the_reason_says_why() -> None:
    forgot = {"tuned": "Accuracy on general questions fell by 9 points."}
    alone = _recommended({"base": 0.1, "prompt": 0.1, "tuned": 0.9}, forgot)
    assert alone.rung == "base"
    assert alone.reason.startswith("Do not ship")
    assert "accuracy on general questions fell by 9 points." in alone.reason
    other = _recommended({"base": 0.1, "prompt": 0.6, "tuned": 0.9}, forgot)
    assert other.rung == "prompt"
    assert "`tuned` scores 90.0 %, but accuracy on general questions fell" in other.reason


def test_nothing_is_recommended_where_the_questions_cannot_tell() -> None:
    few = build_ladder(
        [_climbed("base", [False] * 3), _climbed("tuned", [True] * 3)], ["a", "b", "c"], 0.95
    )
    found = recommend(few, _SETTINGS)
    assert found.rung is None
    assert found.reason.startswith("Too few questions to recommend anything: 3 questions")
    open_still = _recommended({"base": 0.5, "prompt": 0.55})
    assert open_still.rung is None
    assert "would settle it" in open_still.reason


def test_what_is_ruled_out_is_not_worth_more_questions() -> None:
    forgot = {"tuned": "Accuracy on general questions fell by 9 points."}
    found = _recommended({"base": 0.5, "prompt": 0.5, "tuned": 0.55}, forgot)
    assert found.rung is None
    assert "The best that is open, `prompt`" in found.reason
    assert "`tuned` must not ship: accuracy on general questions fell" in found.reason
    alone = _recommended({"base": 0.5, "tuned": 0.55}, forgot)
    assert alone.rung == "base"
    assert alone.reason.endswith("Accuracy on general questions fell by 9 points.")


def test_no_gain_at_all_keeps_the_base() -> None:
    right = [at % 2 == 0 for at in range(2000)]
    groups = [str(at) for at in range(2000)]
    ladder = build_ladder(
        [_climbed("base", right), _climbed("prompt", right), _climbed("tuned", right)],
        groups,
        0.95,
    )
    found = recommend(ladder, _SETTINGS)
    assert found.rung == "base"
    assert "keep the base" in found.reason
    assert standing(ladder.rungs[1].over_base, _SETTINGS) == "hold"


def test_the_reference_is_a_yardstick() -> None:
    assert _recommended({"base": 0.1, "prompt": 0.5, "reference": 0.9}).rung == "prompt"


def test_prices_and_break_even() -> None:
    tokens = Prices(input_per_million=2.0, output_per_million=8.0)
    assert tokens.of(1000, 500, 9.0) == pytest.approx(0.006)
    assert Prices(per_hour=3.6).of(1000, 500, 2.0) == pytest.approx(0.002)
    assert Prices().of(1, 1, 1) is None
    assert break_even(100, Cost(1, 1, 0.5), Cost(1, 1, 0.25)) == 400
    assert break_even(100, Cost(1, 1, 0.25), Cost(1, 1, 0.25)) is None


def test_every_rung_as_plain_data() -> None:
    shares = {name: 0.1 * at for at, name in enumerate(RUNGS)}
    for rung in _ladder(shares).rungs:
        found = rung.as_dict()
        assert found["cost"]["per_1000"]["tokens_out"] == 20_000
        assert (found["over_base"] is None) == (rung.name == "base")
