"""Bad graders get one clear error; nothing else ever escapes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.core.errors import DataError, InputError, SpecError, Where
from tunefork.graders import Grader, parse_grader

HERE = Where("golden.jsonl", 7)

SETTINGS: dict[str, dict[str, Any]] = {
    "contains": {"any": ["a"], "all": ["b"]},
    "exact": {"reference": "a", "ignore_case": True},
    "json_schema": {"schema": {"type": "object"}},
    "length": {"min_words": 1, "max_words": 2, "max_characters": 3, "max_sentences": 4},
    "number": {"value": 1, "tolerance": 0.5},
    "regex": {"pattern": "a+"},
    "similarity": {"reference": "a", "minimum": 0.5},
    "string_check": {"name": "n", "input": "{{sample.output_text}}", "operation": "eq"},
}


def error(value: Any, reference: str | None = "a") -> DataError:
    with pytest.raises(DataError) as caught:
        parse_grader(value, reference=reference, where=HERE)
    assert caught.value.where == HERE
    return caught.value


def test_every_grader_says_in_words_what_it_wants() -> None:
    for name, settings in SETTINGS.items():
        grader = parse_grader({"type": name, **settings}, reference="a", where=HERE)
        assert isinstance(grader, Grader)
        assert len(grader.describe()) > 5
        assert grader == parse_grader({"type": name, **settings}, reference="a", where=HERE)


def test_unknown_names_suggest_the_nearest() -> None:
    found = error("contain")
    assert found.message == "unknown grader `contain`"
    assert found.hint == "did you mean `contains`?"
    assert "known graders are bullets, citations, contains, exact" in str(error("zzz"))


def test_without_a_place_it_is_the_spec_that_is_wrong() -> None:
    with pytest.raises(SpecError, match="unknown grader"):
        parse_grader("nope", reference=None, where=None)


@pytest.mark.parametrize("name", SETTINGS)
def test_unknown_settings_are_errors_with_a_suggestion(name: str) -> None:
    setting = next(iter(SETTINGS[name]))
    found = error({"type": name, **SETTINGS[name], setting + "x": 1})
    assert found.message == f"unknown setting `{setting}x` of grader `{name}`"
    assert found.hint == f"did you mean `{setting}`?"


@pytest.mark.parametrize("reference", [None, "", "  \n"])
@pytest.mark.parametrize(
    "value",
    [
        *("exact", "contains", "regex", "number", "json_schema", "similarity"),
        {"type": "exact", "ignore_case": True},
        {"type": "similarity", "minimum": 0.9},
        {"type": "string_check", "operation": "eq"},
    ],
)
def test_a_missing_reference_is_named(value: Any, reference: str | None) -> None:
    found = error(value, reference)
    assert "needs a reference and the question has none" in found.message
    assert found.hint == "add `reference` to the question"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "the grader has no `type`"),
        ({"type": 3}, "the grader has no `type`"),
        (["exact"], "a grader is a name or an object, not `['exact']`"),
        ({"type": "contains", "any": []}, "give `any` or `all` at least one text to find"),
        ({"type": "contains", "any": [""]}, "`any.0`"),
        ({"type": "contains", "all": [1]}, "`all.0`"),
        ({"type": "regex", "pattern": "(a"}, "not a regular expression: missing )"),
        ({"type": "regex", "pattern": "[[a]"}, "Possible nested set"),
        ({"type": "regex", "pattern": "a{99999999999}"}, "not a regular expression"),
        ({"type": "number", "value": "many"}, "there is no number in it"),
        ({"type": "number", "value": 1, "tolerance": -1}, "`tolerance`"),
        ({"type": "number", "value": float("nan")}, "`value`"),
        ({"type": "json_schema", "schema": {"type": "objekt"}}, "not a JSON Schema"),
        ({"type": "json_schema", "schema": {"pattern": "(a"}}, "not a JSON Schema"),
        ({"type": "json_schema", "schema": "{"}, "not JSON"),
        (
            {"type": "json_schema", "schema": {"allOf": [{"$ref": "file:///etc/passwd"}]}},
            "refers to `file:///etc/passwd`, outside the schema",
        ),
        ({"type": "length"}, "give `min_words`"),
        ({"type": "length", "max_words": 0}, "`max_words`"),
        ({"type": "length", "min_words": 3, "max_words": 2}, "`min_words` is more than"),
        ({"type": "similarity", "minimum": 2}, "`minimum`"),
        ({"type": "string_check"}, "grader `string_check` needs `operation`"),
        ({"type": "string_check", "operation": "is"}, "`operation`"),
        (
            {"type": "string_check", "operation": "eq", "input": "{{sample.text}}"},
            "unknown template `{{sample.text}}`",
        ),
        ({"type": "string_check", "operation": "eq", "input": "a"}, "the answer"),
    ],
)
def test_bad_settings_are_named(value: Any, message: str) -> None:
    assert message in str(error(value))


def test_all_problems_are_reported_at_once() -> None:
    found = error({"type": "length", "max_words": -1, "min_words": -1, "oops": 1})
    assert len(found.details) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=6) | st.sampled_from(["$ref", "type"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
some_settings = st.dictionaries(
    st.sampled_from(sorted({key for settings in SETTINGS.values() for key in settings}))
    | st.text(max_size=5),
    json_values,
    max_size=3,
)
objects = st.builds(
    lambda name, settings: {**settings, "type": name},
    st.sampled_from(sorted(SETTINGS)),
    some_settings,
)


@given(objects | json_values, st.none() | st.text(max_size=20), st.text(max_size=50))
def test_any_object_is_a_grader_or_an_input_error(
    value: Any, reference: str | None, answer: str
) -> None:
    try:
        grader = parse_grader(value, reference=reference, where=HERE)
    except InputError:
        return
    found_grade = grader.grade(answer)
    assert 0 <= found_grade.score <= 1
    assert grader.describe()


@given(st.sampled_from(sorted(SETTINGS)), st.text() | st.from_regex(r"[-0-9.,/e% ]{1,30}"))
def test_any_answer_gets_a_grade(name: str, answer: str) -> None:
    settings = {"type": name, **SETTINGS[name]}
    grader = parse_grader(settings, reference="a", where=HERE)
    first = grader.grade(answer)
    assert first == grader.grade(answer)
    assert first.passed or first.score < 1


@given(st.text(max_size=30))
def test_a_bad_pattern_is_found_when_it_is_read(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own parsing must not leak a warning either way
        try:
            grader = parse_grader("regex", reference=pattern, where=HERE)
        except InputError:
            return
    grader.grade("some answer")


@given(st.from_regex(r"\S(.{0,20}\S)?", fullmatch=True))
def test_what_is_wanted_passes(text: str) -> None:
    for name in ("exact", "contains", "similarity"):
        assert parse_grader(name, reference=text, where=HERE).grade(f" {text} ").passed
