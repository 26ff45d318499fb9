"""What each grader passes and fails."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.graders import Grade, parse_grader
from tunefork.graders.form import count_sentences
from tunefork.graders.number import last_number
from tunefork.graders.similarity import common_length, rouge_l


def grade(value: str | dict[str, Any], answer: str, reference: str | None = None) -> Grade:
    found = parse_grader(value, reference=reference, where=None).grade(answer)
    assert 0 <= found.score <= 1
    assert found.detail
    return found


@pytest.mark.parametrize(
    ("settings", "answer", "passed"),
    [
        ({}, "  Paris\n", True),
        ({}, "paris", False),
        ({}, "Paris.", False),
        ({"ignore_case": True}, "PARIS", True),
    ],
)
def test_exact_trims_white_space_only(settings: dict[str, Any], answer: str, passed: bool) -> None:
    assert grade({"type": "exact", **settings}, answer, "Paris ").passed is passed


@pytest.mark.parametrize(
    ("text", "answer", "passed"),
    [
        ("12", "about 12 hours", True),
        ("12", "312 hours", False),
        ("12", "12.5 hours", False),
        ("12", "3.12 hours", False),
        ("12", "1,12", False),
        ("12", "It is 12.", True),
        ("art", "cart", False),
        ("art", "Modern ART, mostly", True),
        ("Amazon box", "inside amazon\n  box!", True),
        ("Amazon box", "Amazon boxes", False),
        ("don't", "I don\u2019t know", True),
        ("50%", "50% off", True),
        ("$5", "US$5", True),
        ("caf\u00e9", "Cafe\u0301 noir", True),
        ("STRASSE", "Stra\u00dfe", True),
        (".*", "anything", False),
    ],
)
def test_contains_finds_whole_words_in_any_case(text: str, answer: str, passed: bool) -> None:
    assert grade("contains", answer, text).passed is passed


def test_contains_wants_one_of_any_and_each_of_all() -> None:
    settings = {"type": "contains", "any": ["red", "blue"], "all": ["cat", "hat"]}
    assert grade(settings, "a cat with a blue hat").passed
    assert grade(settings, "a cat with a hat").detail == "lacks `red` or `blue`"
    assert grade(settings, "a red cat").detail == "lacks `hat`"


def test_the_grader_s_own_texts_win_over_the_reference() -> None:
    assert not grade({"type": "contains", "any": ["x"]}, "reference", "reference").passed


def test_regex_searches_a_bounded_part() -> None:
    assert grade("regex", "from 9 to 17", r"\d+ to \d+").passed
    assert not grade({"type": "regex", "pattern": "end$"}, "no").passed
    assert not grade({"type": "regex", "pattern": "needle"}, " " * 10_000 + "needle").passed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("it costs 1,234.5", 1234.5),
        ("first 3, then 1,234,567.", 1234567),
        ("-5", -5),
        ("\u22125 degrees", -5),
        ("3-5", 5),
        ("x - 7", 7),
        ("$-12", -12),
        ("$12", 12),
        ("-$12", -12),
        ("45 %", 45),
        ("3/4 of it", 0.75),
        ("1 1/2 cups", 1.5),
        ("1/0", None),
        (".5", 0.5),
        ("2e6", 2e6),
        ("9e999", None),
        ("10 km", 10),
        ("12th", 12),
        ("version v2", None),
        ("no number", None),
        ("12\u202f500", 12500),
        ("1" * 5000, None),
        ("1" * 5000 + "/3", None),
    ],
)
def test_last_number(text: str, value: float | None) -> None:
    found = last_number(text)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("settings", "answer", "passed"),
    [
        ({"value": 42}, "First 7, so 42.", True),
        ({"value": 42}, "42, not 7", False),
        ({"value": 3.14, "tolerance": 0.01}, "about 3.146", True),
        ({"value": 3.14, "tolerance": 0.001}, "about 3.146", False),
        ({"value": 0.3}, "0.30000000001", True),
        ({"value": 0.45}, "45 %", True),
        ({"value": 45}, "45%", True),
        ({"value": 50}, "5000%", False),
        ({"value": "1,000"}, "1000", True),
        ({"value": 1}, "one", False),
    ],
)
def test_number_compares_the_last(settings: dict[str, Any], answer: str, passed: bool) -> None:
    assert grade({"type": "number", **settings}, answer).passed is passed


def test_number_takes_its_value_from_the_reference() -> None:
    assert grade("number", "12", "He is 12 years old.").passed


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#"}},
    "required": ["name"],
    "title": "person",
}


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ('{"name": "Ollie"}', "valid under the schema"),
        ('```json\n{"name": "Ollie"}\n```', "valid under the schema"),
        ('```\n{"name": "Ollie", "next": {"name": "B"}}```', "valid under the schema"),
        ('Here: {"name": "Ollie"}', "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"name": 3}', "$.name: `3 is not of type 'string'`"),
        ('{"name": "A", "next": {}}', "$.next: `'name' is a required property`"),
        ('{"name": NaN}', "not JSON: NaN is not JSON"),
        ("[" * 100_000, "not JSON: nested too deeply"),
    ],
)
def test_json_schema_names_the_fault(answer: str, detail: str) -> None:
    found = grade({"type": "json_schema", "schema": PERSON}, answer)
    assert found.detail == detail
    assert found.passed is (detail == "valid under the schema")


def test_json_schema_never_fetches_and_never_raises() -> None:
    for schema in ({"$ref": "#/nothing"}, {"$ref": "#"}, {"$id": "urn:a", "$ref": "#/b"}):
        assert not grade({"type": "json_schema", "schema": schema}, "{}").passed


def test_length_names_each_broken_bound() -> None:
    settings = {"type": "length", "min_words": 2, "max_words": 3, "max_characters": 12}
    assert grade(settings, "two words").passed
    assert grade(settings, "one").detail == "1 of at least 2 words"
    found = grade({**settings, "max_sentences": 1}, "One. Two. Three. Four.")
    assert found.detail == (
        "4 of at most 3 words, 22 of at most 12 characters, 4 of at most 1 sentences"
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("One", 1), ("One. Two", 2), ("At 3.5 km!", 1), ('"Really?!" he said.', 2)],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_similarity_is_rouge_l() -> None:
    # Lin 2004: LCS of "police kill the gunman" with the reference is "police ... the gunman".
    found = grade("similarity", "police kill the gunman", "Police killed the gunman.")
    assert found.score == pytest.approx(0.75)
    assert found.passed
    strict = {"type": "similarity", "minimum": 0.8}
    assert not grade(strict, "police kill the gunman", "Police killed the gunman.").passed


def test_similarity_without_spaces_and_without_words() -> None:
    assert 0 < rouge_l("我喜欢猫", "我喜欢狗") < 1
    assert rouge_l("!!!", "!!!") == 1
    assert rouge_l("", "!!!") == 0
    assert rouge_l("", "cat") == 0


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_length_equals_the_textbook_table(first: list[str], second: list[str]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    assert common_length(first, second) == table[-1][-1]


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert rouge_l(a, b) == rouge_l(b, a)
    assert 0 <= rouge_l(a, b) <= 1
    assert rouge_l(a, a) == 1


@pytest.mark.parametrize(
    ("operation", "answer", "passed"),
    [
        ("eq", "Paris", True),
        ("eq", "Paris ", False),
        ("ne", "London", True),
        ("like", "in Paris", True),
        ("like", "in paris", False),
        ("ilike", "in paris", True),
    ],
)
def test_string_check(operation: str, answer: str, passed: bool) -> None:
    settings = {
        "type": "string_check",
        "name": "city",
        "input": "{{ sample.output_text }}",
        "reference": "{{item.reference}}",
        "operation": operation,
    }
    assert grade(settings, answer, "Paris").passed is passed


def test_string_check_fills_templates_once() -> None:
    settings = {"type": "string_check", "operation": "eq"}
    assert grade(settings, "{{item.reference}}", "{{item.reference}}").passed
    assert not grade(settings, "x", "{{sample.output_text}}").passed
    assert grade({**settings, "reference": "yes"}, "yes").passed
