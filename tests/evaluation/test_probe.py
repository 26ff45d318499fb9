"""The forgetting probe: reading it, and what counts as right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunefork.core.errors import DataError
from tunefork.evaluation import ProbeItem, load_probe, measure_forgetting, probe_accuracy

ITEM = {"question": "Ice is", "choices": ["hot", "cold"], "answer": 1, "group": "ice"}


def items(n: int) -> list[ProbeItem]:
    return [ProbeItem("q", ("a", "b"), 1, str(i), "sealed") for i in range(n)]


def test_items_are_read(tmp_path: Path) -> None:
    path = tmp_path / "probe.jsonl"
    lines = [{**ITEM, "half": "select"}, {"question": "q", "choices": ["a", "b"], "answer": "b"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert load_probe(path) == [
        ProbeItem("Ice is", ("hot", "cold"), 1, "ice", "select"),
        ProbeItem("q", ("a", "b"), 1, "q", "sealed"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": ""}, "`question` must be text"),
        ({"choices": "ab"}, "`choices` must be a list of texts"),
        ({"choices": ["a", 1]}, "`choices` must be a list of texts"),
        ({"choices": ["a"]}, "`choices` must be at least two"),
        ({"choices": ["a", "a"]}, "`choices` must be at least two, all different"),
        ({"answer": 2}, "`answer` must be one of"),
        ({"answer": True}, "`answer` must be one of"),
        ({"answer": "warm"}, "`answer` must be one of"),
        ({"group": 3}, "`group` must be text"),
        ({"half": "left"}, "`half` must be"),
        ({"choises": []}, "did you mean `choices`?"),
    ],
)
def test_bad_items_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "probe.jsonl"
    path.write_text(json.dumps(ITEM) + "\n" + json.dumps({**ITEM, **change}) + "\n{broken\n")
    with pytest.raises(DataError) as caught:
        load_probe(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert caught.value.details[0].startswith(f"{path}:3: ")


def test_the_likeliest_choice_counts_and_a_tie_does_not() -> None:
    log_probabilities = [[-2.0, -1.0], [-1.0, -2.0], [-1.0, -1.0], [-1.0, float("nan")]]
    assert probe_accuracy(items(4), log_probabilities) == [True, False, False, False]


def test_forgetting_is_the_absolute_drop() -> None:
    base = [True] * 80 + [False] * 20
    tuned = [True] * 70 + [False] * 30
    found = measure_forgetting(items(100), base, tuned)
    assert (found.base_accuracy, found.tuned_accuracy, found.items) == (0.8, 0.7, 100)
    assert found.drop == pytest.approx(0.1)
    assert 0 < found.low < 0.1 < found.high < 0.2
    assert measure_forgetting(items(100), tuned, base).drop == pytest.approx(-0.1)
