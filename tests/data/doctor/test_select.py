"""`select`: typical rows of every kind, nothing that resembles no other, and no cut answers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.data.doctor.made import context, find, make_rows
from tunefork.data.doctor import Finding, examine, select_rows
from tunefork.data.doctor.select import _Coverage
from tunefork.data.doctor.vectors import vectors

TOPICS = ("parcel", "invoice", "password", "refund")
ODD = [
    (f"{a} {b} {c}?", f"{d} {e} {f}.")
    for a, b, c, d, e, f in (
        random.Random(at).sample([f"w{at}x{number}" for number in range(9)], 6) for at in range(30)
    )
]


def _topical(count: int) -> list[tuple[str, str]]:
    """Return rows of four kinds; those of one kind share words and the answer."""
    chance = random.Random(1)
    fillers = ["my", "the", "old", "new", "still", "today", "again", "please", "quickly", "here"]
    return [
        (
            f"{' '.join(chance.sample(fillers, 4))} {topic} lost, how do I get the {topic} back",
            f"For the {topic} go to the {topic} page and ask for the {topic}.",
        )
        for _ in range(count)
        for topic in TOPICS
    ]


def test_what_resembles_nothing_is_not_taken_before_the_typical() -> None:
    rows = make_rows([*_topical(40), *ODD])
    chosen = select_rows(rows, [], 60)
    assert not {number for number in chosen.numbers if number > 160}
    by_topic = [sum((number - 1) % 4 == at for number in chosen.numbers) for at in range(4)]
    assert min(by_topic) >= 10
    assert len(select_rows(rows, [], 190).numbers) == 190, "but it is there where all are wanted"


def test_questions_whose_answers_are_wrong_count_for_what_is_wanted() -> None:
    """Of four kinds, as common as each other, one has 4 clean rows of 64: less than one of 12."""
    pairs = _topical(20)
    cut = tuple(at + 1 for at, (asked, _) in enumerate(pairs) if "parcel" in asked and at >= 16)
    finding = Finding("truncated", "warning", len(cut), cut, "", "")
    chosen = select_rows(make_rows(pairs), [finding], 12)
    assert not set(chosen.numbers) & set(cut)
    assert sum((number - 1) % 4 == 0 for number in chosen.numbers) >= 2


def test_greedy_takes_what_the_rule_says() -> None:
    """The slow reference: every gain worked out anew before each choice."""
    found = vectors([f"{asked}\n{said}" for asked, said in [*_topical(10), *ODD]])
    candidates, clients = np.arange(0, 70, 2), np.arange(70)
    similar = np.square(np.maximum(found @ found.T, 0))
    np.fill_diagonal(similar, 0)
    expected: list[int] = []
    covered = np.zeros(70)
    for _ in range(12):
        gains = [
            -1.0 if at in expected else np.maximum(similar[at] - covered, 0).sum()
            for at in candidates
        ]
        expected.append(int(candidates[int(np.argmax(gains))]))
        covered = np.maximum(covered, similar[expected[-1]])
    chosen = _Coverage(found, candidates, clients).greedy(12).tolist()
    total = [np.max(similar[each], axis=0).sum() for each in (expected, chosen)]
    assert total[1] == pytest.approx(total[0], rel=1e-4)
    assert len(set(chosen)) == 12


# --- answers that stop where others go on

WHOLE = "You can track the parcel on the order page. It shows where the van is right now"


def _with(extra: list[tuple[str, str]]) -> list[tuple[str, str]]:
    made = [
        (f"Question {at} of the day?", f"The answer to this is number {at}, as ever. Truly so.")
        for at in range(60)
    ]
    asked = [(f"Where is parcel {at}?", f"{WHOLE}, and when it comes.") for at in range(3)]
    return [*made, *asked, *extra]


@pytest.mark.parametrize("answer", ["You can track the parcel", WHOLE.split(".")[0] + "."])
def test_an_answer_with_which_others_begin_is_cut(answer: str) -> None:
    found = find(_with([("And mine?", answer)]), "truncated")
    assert found is not None
    assert found.rows == (64,)


@pytest.mark.parametrize("answer", ["You can", "You can track the van", f"{WHOLE}, or not at all."])
def test_an_answer_with_which_none_begins_is_whole(answer: str) -> None:
    assert find(_with([("And mine?", answer)]), "truncated") is None


def test_a_short_answer_that_is_common_is_one_of_its_own() -> None:
    short = WHOLE.split(".")[0] + "."
    assert find(_with([(f"And mine, {at}?", short) for at in range(5)]), "truncated") is None


def test_commands_without_full_stops_are_not_cut() -> None:
    pairs = [(f"Alarm {at}", f"set an alarm for {at}") for at in range(1, 40)]
    pairs += [(f"Alarm {at} at night", f"set an alarm for {at} pm") for at in range(1, 12)]
    assert "truncated" not in {each.code for each in examine(context(pairs))}
