"""A goal is refused only where nothing in it can be marked; rows become questions that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import call
from tests.projects import write_lines
from tunefork.core.errors import DataError, SpecError
from tunefork.core.events import no_sink
from tunefork.data import Prompts, load_examples
from tunefork.evaluation import groups_for, leaked, load_golden
from tunefork.graders import parse_grader
from tunefork.workflow.answer_form import form_of, grader_for, labels_of
from tunefork.workflow.goal import EXAMPLES, read_goal, require_testable
from tunefork.workflow.golden_offer import offer_golden
from tunefork.workflow.spec import load_project


@pytest.mark.parametrize(
    "text",
    [
        "make it smarter",
        "Make the model better!",
        "be more helpful and accurate",
        "a really good chatbot for everything",
        "I want the best AI assistant",
        "improve quality",
        "GPT",
        "",
        "  \n",
        "?!",
    ],
)
def test_a_vague_goal_is_answered_with_what_a_testable_one_looks_like(text: str) -> None:
    with pytest.raises(SpecError) as error:
        require_testable(text)
    told = str(error.value)
    assert "how to tell a right answer from a wrong one" in told
    assert EXAMPLES[0] in told


@pytest.mark.parametrize(
    "text",
    [
        *EXAMPLES,
        "Answers questions about Ollie the cat like his proud owner",
        "Answers our customers like our best colleague",
        "Says when each animal naps",
        "Extract invoice numbers as JSON",
        "Beantwortet Fragen zu unseren Öffnungszeiten",
        "Answers better than the base on questions about tax law",
        "Übersetzt Rezepte ins Englische",
    ],
)
def test_a_goal_that_says_what_to_do_about_what_passes(text: str) -> None:
    assert require_testable(text).text == text


def test_a_goal_is_taken_apart() -> None:
    goal = read_goal("Make it smarter at tax law")
    assert goal.vague == ("smarter",)
    assert goal.telling == ("tax", "law")


@pytest.mark.parametrize(
    ("answer", "form", "good", "bad"),
    [
        ("Yes.", "yes or no", "yes.", "No."),
        ("42", "number", "It is 42.", "It is 41."),
        ("about 1,200 km", "number", "1200", "12"),
        ("8:30 am sharp", "short", "We open at 8:30 am sharp.", "At nine."),
        ('{"name": "Ann", "age": 3}', "JSON", '{"name": "Bo", "age": 4}', '{"name": "Bo"}'),
        ('["a", "b"]', "JSON", '["c"]', '{"a": 1}'),
        ("- tea\n- milk\n- rum", "list", "1. a\n2. b\n3. c", "- a\n- b"),
        (
            "We open at half past eight, and close when the last guest has gone home.",
            "long",
            "We open at half past eight and close when the last guest has gone.",
            "No idea.",
        ),
    ],
)
def test_the_grader_fits_the_form(answer: str, form: str, good: str, bad: str) -> None:
    assert form_of(answer) == form
    reference, value = grader_for(answer, form_of(answer))
    grader = parse_grader(value, reference=reference, where=None)
    assert grader.grade(answer).passed
    assert grader.grade(good).passed
    assert not grader.grade(bad).passed


def test_labels_are_answers_that_return() -> None:
    labels = labels_of(["billing", "returns"] * 10)
    assert labels == {"billing", "returns"}
    assert form_of("billing", labels) == "label"
    assert labels_of([f"answer {at}" for at in range(20)]) == frozenset()
    assert labels_of(["same"] * 20) == frozenset()


@given(st.text(min_size=1).filter(str.strip))
def test_any_answer_gets_a_grader_that_passes_it(answer: str) -> None:
    reference, value = grader_for(answer, form_of(answer))
    if value in ("contains", "similarity", "numeric") and not any(map(str.isalnum, answer)):
        return
    assert parse_grader(value, reference=reference, where=None).describe()


_PLACES = ("Rome", "Oslo", "Lima", "Cairo", "Paris", "Quito", "Delhi", "Tunis", "Hanoi", "Kyiv")
_THINGS = ("bread", "honey", "copper", "velvet", "timber", "amber", "saffron")
_TWIN = " Tell me please"


def _facts(count: int = 120) -> list[dict[str, Any]]:
    """Return rows about different things, every third with a twin."""
    found = []
    for at in range(count):
        place, thing = _PLACES[at % len(_PLACES)], _THINGS[at % len(_THINGS)]
        question = f"How many crates of {thing} number {at} does the harbour of {place} hold?"
        found.append({"user": question, "assistant": str(at)})
        if at % 3 == 0:
            found.append({"user": question + _TWIN, "assistant": str(at)})
    return found


def test_whole_groups_are_held_out_and_nothing_is_lost(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", _facts())
    offer = offer_golden(path, gain=0.3, sink=no_sink)
    n_rows = len(load_examples(path))
    assert len(offer.golden) + len(offer.training) + offer.n_left == n_rows
    assert 0 < len(offer.golden) <= 0.2 * n_rows + 3
    golden = load_golden(write_lines(tmp_path / "golden.jsonl", list(offer.golden)))
    trained = load_examples(write_lines(tmp_path / "train.jsonl", list(offer.training)))
    asked = Prompts.of(turn.content for row in trained for turn in row.prompt)
    assert leaked(golden, asked) == []
    # A twin is never on the other side.
    questions = {question.text.removesuffix(_TWIN) for question in golden}
    others = {row.prompt[-1].content.removesuffix(_TWIN) for row in trained}
    assert questions.isdisjoint(others)
    assert len({question.group for question in golden}) == offer.n_groups
    assert offer.forms == {"number": len(offer.golden)}


def test_what_is_held_out_follows_from_the_text_not_from_the_order(tmp_path: Path) -> None:
    rows = _facts()
    first = offer_golden(write_lines(tmp_path / "a.jsonl", rows), gain=0.3, sink=no_sink)
    second = offer_golden(write_lines(tmp_path / "b.jsonl", rows[::-1]), gain=0.3, sink=no_sink)
    asked = [{line["question"] for line in offer.golden} for offer in (first, second)]
    assert asked[0] == asked[1]


def test_how_many_the_wanted_gain_takes_is_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", _facts())
    large = offer_golden(path, gain=0.9, sink=no_sink)
    assert large.as_dict()["is_enough"]
    assert large.n_groups == large.needed == groups_for(0.9)
    small = offer_golden(path, gain=0.05, sink=no_sink).as_dict()
    assert not small["is_enough"]
    assert small["groups_needed"] > 500
    assert 0.1 < small["smallest_visible_gain"] < 1
    assert offer_golden(path, gain=0.05, most=6, sink=no_sink).n_groups == 6


def test_too_few_rows_say_so(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", _facts(10))
    with pytest.raises(DataError, match="too few"):
        offer_golden(path, gain=0.3, sink=no_sink)


def test_a_goal_and_rows_become_a_project(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", _facts())
    goal = 'Says how many crates: "the number" alone, whatever is asked'
    options = ("--goal", goal, "--data", path, "--gain", "0.3", "--json")
    found = call("init", tmp_path / "mine", *options).json
    project = load_project(tmp_path / "mine")
    assert project.spec.goal == goal
    assert len(load_golden(project.path("golden.jsonl"))) == found["golden"]["questions"]
    assert len(load_examples(project.path("train.jsonl"))) == found["golden"]["training_rows"]
    told = call("init", tmp_path / "again", "--goal", goal, "--data", path)
    assert "golden questions about" in told.err
    assert "A gain of 10 points takes about" in told.err


def test_nothing_is_written_where_the_goal_is_vague(tmp_path: Path) -> None:
    called = call("init", tmp_path / "mine", "--goal", "make it smarter", "--json")
    assert called.code == 1
    assert "nobody can mark `smarter`" in called.json["error"]["message"]
    assert any("a fact, a form, a source" in line for line in called.json["error"]["details"])
    assert not (tmp_path / "mine").exists()


def test_a_goal_alone_stands_in_the_spec_to_fill_in(tmp_path: Path) -> None:
    assert call("init", tmp_path / "mine", "--goal", EXAMPLES[2]).code == 0
    assert load_project(tmp_path / "mine").spec.goal == EXAMPLES[2]
    assert call("init", tmp_path / "plain").code == 0
    assert load_project(tmp_path / "plain").spec.goal.startswith("Answers our customers'")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    rows = write_lines(tmp_path / "rows.jsonl", _facts())
    assert call("init", tmp_path / "a", "--data", rows).code == 2
    assert call("init", tmp_path / "a", "--example", "catgpt", "--goal", EXAMPLES[0]).code == 2
    assert call("init", tmp_path / "a", "--goal", EXAMPLES[0], "--data", "nowhere.jsonl").code == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    called = call("init", tmp_path / "full", "--goal", EXAMPLES[0], "--data", rows)
    assert called.code == 1
    assert "not empty" in called.err
    assert not (tmp_path / "a").exists()
