import itertools
import json
import re
from collections import Counter
from functools import cache

import pytest

from recipes.tiny_base.generate import MIX, check_frames, rows
from recipes.tiny_base.heldout import about_cats, grade, heldout
from recipes.tiny_base.passages import tables as passage_tables
from recipes.tiny_base.probe import probe
from recipes.tiny_base.replay import GRANTED, SIZE, refused, replay
from recipes.tiny_base.rows import Row
from recipes.tiny_base.slots import RESERVED
from recipes.tiny_base.tables import (
    all_facts,
    answer_fields,
    article,
    expand,
    fill,
    plural,
    relation,
    relations,
)
from recipes.tiny_base.wording import has_held_wording, normal
from tunefork.evaluation import load_safety


@cache
def drawn() -> tuple[Row, ...]:
    return tuple(rows(0, 50_000))


def texts(row: Row) -> list[str]:
    return [message["content"] for message in row["messages"]]


def test_rows_are_the_same_for_the_same_seed() -> None:
    assert list(rows(3, 300)) == list(rows(3, 300))
    assert list(rows(3, 300)) != list(rows(4, 300))


def test_no_row_holds_a_held_out_wording() -> None:
    check_frames()
    asked = {
        normal(item["question"])
        for item in heldout()
        if item["kind"] in {"fact", "list"} and "question" in item
    }
    assert len(asked) > 300
    for row in drawn():
        for text in texts(row):
            assert not has_held_wording(text), text
            assert normal(text) not in asked


def test_the_guard_sees_through_case_punctuation_and_words_around() -> None:
    held = relation("animal_day").held[0].format(a="a cow", p="cows")
    assert has_held_wording(f"Hi! {held.upper().rstrip('?')}, please")
    assert not has_held_wording("What do cows do all day?")


def test_held_out_questions_about_texts_are_not_trained() -> None:
    kinds = ("person", "pet", "shop", "event", "object")
    abouts = [about for kind in kinds for about in passage_tables()[kind]]
    trained = {ask for about in abouts for ask in about["ask"]}
    assert all(about["held"] for about in abouts)
    assert not trained & {ask for about in abouts for ask in about["held"]}


def test_the_reserved_name_is_nowhere() -> None:
    everything = json.dumps([drawn(), heldout(), probe(), replay()])
    assert RESERVED.lower() not in everything.lower()


def test_rows_are_well_formed() -> None:
    for row in drawn():
        roles = [message["role"] for message in row["messages"]]
        talk = roles[1:] if roles[0] == "system" else roles
        assert talk == ["user", "assistant"] * (len(talk) // 2)
        assert talk
        assert all(text.strip() for text in texts(row))
        assert not any(
            "{" in text and "JSON" not in str(row) and "json" not in row["kind"]
            for text in texts(row)
        ), row


def test_the_mix_is_the_documented_one() -> None:
    assert sum(MIX.values()) == 100
    shares = Counter(row["kind"] for row in drawn())
    assert shares["fact"] / len(drawn()) == pytest.approx(0.32, abs=0.02)
    assert shares["passage"] / len(drawn()) == pytest.approx(0.23, abs=0.02)
    assert len(shares) > 25


def test_rows_outside_facts_hardly_repeat() -> None:
    others = Counter(
        str(row["messages"])
        for row in drawn()
        if row["kind"] in {"passage", "verify", "personal", "story", "format", "json"}
    )
    assert len(others) / sum(others.values()) > 0.98


def test_every_fact_is_answered_often_and_has_many_wordings() -> None:
    answers = Counter(
        normal(message["content"])
        for row in drawn()
        for message in row["messages"]
        if message["role"] == "assistant"
    )
    counts = [
        sum(answers[normal(fill(say, answer_fields(rel, fact)))] for say in rel.say)
        for rel, fact in all_facts()
    ]
    # A full run has at least five times as many rows.
    assert sum(counts) / len(counts) > 12
    assert min(counts) >= 2
    for rel in relations():
        assert len(rel.ask) + len(rel.know) >= 8, rel.name
        assert len(rel.held) >= 3, rel.name


def test_the_tables_hold_enough_facts() -> None:
    facts = {fact.id for _, fact in all_facts()}
    assert len(facts) >= 900
    cat = next(fact for fact in relation("animal_day").facts if fact.subject == "cat")
    assert cat.value == "sleep a lot"


def test_held_out_references_pass_their_own_grader() -> None:
    items = heldout()
    assert len(items) >= 320
    assert sum(item["kind"] == "fact" for item in items) / len(items) >= 0.75
    for item in items:
        values = item["grader"]["any"]
        assert grade(values, item["reference"]), item
        assert not grade(values, "I do not know that."), item
        if item["kind"] == "fact":
            assert not grade(values, item["question"]), item


def test_the_grader_wants_whole_words() -> None:
    assert grade(["cow"], "A Cow gives milk.")
    assert not grade(["cow"], "Cowboys ride.")
    assert not grade(["= 1"], "3 + 8 = 11.")


def test_probe_items_have_one_right_choice() -> None:
    items = probe()
    assert len(items) >= 1700
    for item in items:
        assert len(item["choices"]) == len(set(item["choices"])) == 4
        assert 0 <= item["answer"] < 4
        assert not about_cats(json.dumps(item)), item
    places = Counter(item["answer"] for item in items)
    assert min(places.values()) > len(items) / 5


def test_probe_halves_share_no_fact() -> None:
    halves: dict[str, set[str]] = {"select": set(), "sealed": set()}
    for item in probe():
        halves[item["half"]].add(item["group"])
    assert not halves["select"] & halves["sealed"]
    sizes = [len(groups) for groups in halves.values()]
    assert abs(sizes[0] - sizes[1]) < 0.05 * sum(sizes)


def test_half_of_the_probe_uses_held_out_wordings() -> None:
    held = sum(has_held_wording(item["question"]) for item in probe())
    assert held / len(probe()) == pytest.approx(0.5, abs=0.05)


def test_replay_rows_are_short_general_and_new() -> None:
    asked = {normal(item["question"]) for item in probe()}
    picked = replay()
    assert len(picked) == SIZE + len(refused()) + GRANTED
    for message in itertools.chain.from_iterable(picked):
        assert not about_cats(message["content"])
        assert not has_held_wording(message["content"])
        assert normal(message["content"]) not in asked


def test_no_request_of_the_safety_probe_is_rehearsed() -> None:
    rehearsed = [set(normal(row[0]["content"]).split()) for row in refused()]
    for item in load_safety():
        words = set(normal(item.request).split())
        alike = max(len(words & other) / len(words | other) for other in rehearsed)
        assert alike < 0.75, item.request


@pytest.mark.parametrize(
    ("noun", "one", "many"),
    [
        ("cow", "a cow", "cows"),
        ("owl", "an owl", "owls"),
        ("unicycle", "a unicycle", "unicycles"),
        ("mouse", "a mouse", "mice"),
        ("berry", "a berry", "berries"),
        ("rice", "rice", "rice"),
        ("the sun", "the sun", "the sun"),
        ("pair of scissors", "a pair of scissors", "pairs of scissors"),
    ],
)
def test_articles_and_plurals(noun: str, one: str, many: str) -> None:
    assert article(noun) == one
    assert plural(noun) == many


def test_choices_in_templates_are_written_out() -> None:
    assert expand("Where do (dogs|cats) live?") == ["Where do dogs live?", "Where do cats live?"]
    assert expand("What do they do(| now)?") == ["What do they do?", "What do they do now?"]


def test_articles_in_rows_fit_their_words() -> None:
    wrong = re.compile(r"\b(?:a [aeio]\w|an [bcdfgjklmnpqrstvwxyz]\w)", re.IGNORECASE)
    for row in drawn():
        if row["kind"] in {"fact", "check", "portrait", "story", "passage"}:
            for text in texts(row):
                found = wrong.search(text)
                assert found is None, text
