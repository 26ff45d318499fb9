"""OpenAI's graders: shapes, metrics against their oracles, formulas, models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.fuzz import ratio
from sacrebleu import sentence_bleu

from tunefork.core.errors import SpecError
from tunefork.graders import (
    AskModel,
    Failure,
    Grade,
    Grader,
    grade_many,
    parse_grader,
    validate_grader,
)
from tunefork.graders.formula import parse_formula
from tunefork.graders.overlap import METRICS, meteor, rouge_n

TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "a", "dog"]), max_size=12).map(
    " ".join
)


def parse(value: Any, reference: str | None = None, **item: Any) -> Grader:
    return parse_grader(value, reference=reference, where=None, item=item)


def ask_with(*replies: str | Failure) -> Any:
    def ask(questions: Sequence[AskModel]) -> Sequence[str | Failure]:
        assert len(questions) == len(replies)
        return replies

    return ask


@pytest.mark.parametrize("metric", METRICS)
@given(answer=TEXTS, reference=TEXTS)
@settings(max_examples=30)
def test_metrics_are_1_for_the_same_and_never_outside(
    metric: str, answer: str, reference: str
) -> None:
    assert 0 <= METRICS[metric](answer, reference) <= 1
    n = int(metric[-1]) if metric[-1].isdigit() else 1
    if len(reference.split()) >= n and metric != "meteor":
        assert METRICS[metric](reference, reference) == pytest.approx(1)


@given(TEXTS, TEXTS)
def test_bleu_and_fuzzy_match_are_the_libraries_own(answer: str, reference: str) -> None:
    bleu = sentence_bleu(answer, [reference], use_effective_order=True).score / 100
    assert METRICS["bleu"](answer, reference) == pytest.approx(bleu)
    assert METRICS["fuzzy_match"](answer, reference) == ratio(answer, reference) / 100


@given(TEXTS, TEXTS, st.integers(1, 5))
def test_rouge_n_counts_shared_grams_once_each(answer: str, reference: str, n: int) -> None:
    def grams(text: str) -> list[tuple[str, ...]]:
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    left, shared = grams(reference), 0
    for gram in grams(answer):
        if gram in left:
            left.remove(gram)
            shared += 1
    total = len(grams(answer)) + len(grams(reference))
    assert rouge_n(answer, reference, n) == pytest.approx(2 * shared / total if total else 0)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        # The worked examples of Wikipedia's article on METEOR, from Banerjee and Lavie's formula.
        ("on the mat sat the cat", 0.5),
        ("the cat sat on the mat", 0.9977),
        ("the cat was sat on the mat", 0.9654),
        ("nothing alike", 0.0),
    ],
)
def test_meteor_of_the_published_examples(answer: str, score: float) -> None:
    assert meteor(answer, "the cat sat on the mat") == pytest.approx(score, abs=5e-5)


def test_gleu_counts_what_is_shared_by_the_longer_text() -> None:
    answer = (
        "It is a guide to action which ensures that the military always obeys the commands "
        "of the party"
    )
    reference = (
        "It is a guide to action that ensures that the military will forever heed Party commands"
    )
    n_all = 18 + 17 + 16 + 15
    assert METRICS["gleu"](answer, reference) == pytest.approx(_shared(answer, reference) / n_all)


def _shared(answer: str, reference: str) -> int:
    total = 0
    for n in range(1, 5):
        words, left = answer.lower().split(), reference.lower().split()
        theirs = [left[i : i + n] for i in range(len(left) - n + 1)]
        for i in range(len(words) - n + 1):
            if words[i : i + n] in theirs:
                theirs.remove(words[i : i + n])
                total += 1
    return total


def test_text_similarity_passes_from_its_threshold_on() -> None:
    shape = {
        "type": "text_similarity",
        "name": "close",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.reference }}",
        "evaluation_metric": "fuzzy_match",
    }
    found = parse(shape, "kitten").grade("sitting")
    assert found.score == pytest.approx(8 / 13)
    assert found.passed
    assert not parse({**shape, "pass_threshold": 0.7}, "kitten").grade("sitting").passed
    with pytest.raises(SpecError, match="`cosine` needs an embedding model"):
        parse({**shape, "evaluation_metric": "cosine"}, "x")
    with pytest.raises(SpecError, match="unknown metric `rouge_6`"):
        parse({**shape, "evaluation_metric": "rouge_6"}, "x")


def test_templates_reach_into_item_and_json() -> None:
    shape = {
        "type": "string_check",
        "operation": "eq",
        "input": "{{sample.output_json.city[0]}} {{ item.facts[1].year }}",
        "reference": "Paris {{item.year}}",
    }
    grader = parse(shape, year=1889, facts=[{}, {"year": 1889}])
    assert grader.grade('{"city": ["Paris"]}').passed
    assert grader.grade("Paris").error == "sample_parse_error"
    assert grader.grade('{"city": []}').error == "invalid_variable_error"
    assert (
        grader.grade('{"town": 1}').detail == "not graded: there is no `sample.output_json.city[0]`"
    )
    # What is filled in is not read as a template again.
    assert (
        not parse({**shape, "input": "{{sample.output_text}}"}, year=1).grade("{{item.year}}").error
    )


def test_a_misspelt_field_is_found_before_any_answer() -> None:
    shape = {"type": "string_check", "operation": "eq", "reference": "{{item.yaer}}"}
    with pytest.raises(SpecError, match="no field `yaer`; did you mean `year`"):
        parse(shape, year=1)
    # Without a question, any field may still come.
    grader = validate_grader(shape)
    assert grader.with_item({"yaer": "x"}).grade("x").passed
    assert grader.grade("x").error == "invalid_variable_error"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("8 / 4 / 2", 1),
        ("1 - 2 - 3", -4),
        ("a * 0.5 + b", 2.25),
        ("min(a, b, 9) + max(a, b)", 2.5),
        ("abs(-1.5e1) + floor(1.9) + ceil(.1)", 17),
        ("exp(log(3)) + sqrt(16)", 7),
        ("+a", 0.5),
    ],
)
def test_formulas_have_the_usual_value(text: str, value: float) -> None:
    assert parse_formula(text, ["a", "b"]).value({"a": 0.5, "b": 2}) == pytest.approx(value)


formulas = st.recursive(
    st.sampled_from(["a", "b", "2", "0.5", "3"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("-{}".format, inner)
        | st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner)
    ),
    max_leaves=12,
)


@given(formulas)
def test_formulas_agree_with_python(text: str) -> None:
    values = {"a": 0.25, "b": -1.5}
    try:
        expected = eval(text, {}, {**values, "min": min, "max": max})
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="no value here"):
            parse_formula(text, ["a", "b"]).value(values)
        return
    assert parse_formula(text, ["a", "b"]).value(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it ends too early"),
        ("a +", "it ends too early"),
        ("a b", "`b` is not expected there"),
        ("(a", r"a `\)` is missing"),
        ("min(a)", "`min` takes two or more"),
        ("abs(a, b)", "`abs` takes one"),
        ("acuracy", "no grader is called `acuracy`; did you mean `accuracy`"),
        ("eval(a)", "unknown function `eval`"),
        ("__import__('os')", "`'` is not known"),
        ("a.b", r"`\.` is not known"),
        ("(" * 300, "longer than 200"),
        ("1e", "`e` is not expected"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_formula(text, ["a", "b", "accuracy"])


@given(st.text(alphabet="ab0123.+-*/^(), minaxsqrtlog", max_size=30))
def test_any_text_is_a_formula_or_a_value_error(text: str) -> None:
    try:
        value = parse_formula(text, ["a", "b"]).value({"a": 0.0, "b": 3.0})
    except ValueError:
        return
    assert math.isfinite(value)


MULTI = {
    "type": "multi",
    "name": "both",
    "graders": {
        "right": {"type": "string_check", "name": "right", "operation": "eq"},
        "rated": {
            "type": "score_model",
            "name": "rated",
            "model": "m",
            "input": [
                {"role": "user", "content": "Rate {{sample.output_text}} for {{item.topic}}"}
            ],
            "range": [0, 10],
        },
        "short": {"type": "length", "max_words": 3},
    },
    "calculate_output": "0.5 * right + 0.04 * rated + 0.1 * short",
}


def test_multi_combines_values_in_their_own_units() -> None:
    grader = parse(MULTI, "Paris", topic="geography")
    asked: list[AskModel] = []

    def ask(questions: Sequence[AskModel]) -> list[str]:
        asked.extend(questions)
        return ["9", "5"]

    good, bad = grade_many([grader, grader], ["Paris", "I think it is Rome"], ask=ask)
    assert good.score == pytest.approx(0.96)
    assert good.parts == {"right": 1, "rated": 9, "short": 1}
    assert bad.score == pytest.approx(0.2)
    assert not bad.passed
    assert asked[0].messages[0]["content"] == "Rate Paris for geography"
    assert asked[0].model == "m"


def test_multi_fails_with_the_part_that_fails() -> None:
    (found,) = grade_many([parse(MULTI, "x", topic="y")], ["x"])
    assert found.error == "model_grader_server_error"
    assert found.detail.startswith("`rated`: not graded")
    zero = {**MULTI, "graders": {"a": "exact"}, "calculate_output": "1 / a"}
    (found,) = grade_many([parse(zero, "x")], ["y"])
    assert found.error == "formula_parse_error"
    human = {**MULTI, "graders": {"a": "human"}, "calculate_output": "a"}
    assert grade_many([parse(human)], ["y"])[0].is_pending


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"graders": {}}, "`graders`: must not be empty"),
        ({"graders": {"a": "exct"}}, r"`a`: unknown grader `exct` \(did you mean `exact`"),
        ({"graders": {"a": {"type": "length", "max_word": 1}}}, "did you mean `max_words`"),
        ({"calculate_output": "rigth"}, "did you mean `right`"),
        ({"calculate_outputs": "right"}, "unknown setting `calculate_outputs`"),
    ],
)
def test_bad_multis_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse({**MULTI, **change}, "x", topic="t")


SCORE = {
    "type": "score_model",
    "name": "s",
    "model": "m",
    "input": [
        {"role": "developer", "content": [{"type": "input_text", "text": "Rate."}]},
        {"role": "user", "content": "{{sample.output_text}}"},
    ],
    "range": [1, 5],
    "sampling_params": {"temperature": 0, "seed": 3, "max_completions_tokens": 9},
}


def mark(grader: Grader, *replies: str | Failure, answer: str = "x") -> Grade:
    return grade_many([grader], [answer], ask=ask_with(*replies))[0]


@pytest.mark.parametrize(
    ("reply", "score", "error"),
    [
        ("5", 1.0, None),
        ("3", 0.5, None),
        ("Score: 2.", 0.25, None),
        ('{"result": 4.0, "steps": []}', 0.75, None),
        ("7", 0.0, "model_grader_parse_error"),
        ("very good", 0.0, "model_grader_parse_error"),
        ("NaN", 0.0, "model_grader_parse_error"),
        ("", 0.0, "model_grader_parse_error"),
        ("I'm sorry, but I can't help with that.", 0.0, "model_grader_refusal_error"),
        (Failure("model_grader_server_error", "is down"), 0.0, "model_grader_server_error"),
    ],
)
def test_score_model_reads_the_reply(reply: str | Failure, score: float, error: str | None) -> None:
    found = mark(parse(SCORE), reply)
    assert (found.score, found.error) == (score, error)


def test_score_model_asks_with_the_answer_and_says_how_to_reply() -> None:
    (query,) = parse(SCORE).queries("my answer")  # type: ignore[attr-defined]
    assert [turn["content"] for turn in query.messages][:2] == ["Rate.", "my answer"]
    assert "one number from 1 to 5" in query.messages[-1]["content"]
    assert query.sampling == {"temperature": 0, "seed": 3, "max_completions_tokens": 9}


def test_a_model_is_not_asked_with_holes() -> None:
    shape = {**SCORE, "input": [{"role": "user", "content": "{{sample.output_json.a}}"}]}
    (found,) = grade_many([parse(shape)], ["no json"], ask=ask_with())
    assert found.error == "sample_parse_error"


LABEL = {
    "type": "label_model",
    "name": "l",
    "model": "m",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "labels": ["good", "not good", "bad"],
    "passing_labels": ["good"],
}


@pytest.mark.parametrize(
    ("reply", "passed", "error"),
    [
        ("good", True, None),
        ('"Good".', True, None),
        ("not good", False, None),
        ("Label: bad", False, None),
        ("good or bad", False, "model_grader_parse_error"),
        ("excellent", False, "model_grader_parse_error"),
    ],
)
def test_label_model_reads_the_reply(reply: str, passed: bool, error: str | None) -> None:
    found = mark(parse(LABEL), reply)
    assert (found.passed, found.error) == (passed, error)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**SCORE, "range": [5, 1]}, "`range` is"),
        ({**SCORE, "range": [0, float("nan")]}, "`range` is"),
        ({**SCORE, "input": []}, "`input`: must not be empty"),
        ({**SCORE, "input": [{"role": "user", "content": "hi"}]}, "nowhere holds"),
        ({**SCORE, "input": [{"role": "user", "contents": "hi"}]}, "needs `input.0.content`"),
        (
            {
                **SCORE,
                "input": [{"role": "user", "content": [{"type": "input_image", "text": ""}]}],
            },
            "`input.0.content.0.type`",
        ),
        ({**SCORE, "sampling_params": {"temprature": 1}}, "did you mean `temperature`"),
        ({**LABEL, "passing_labels": ["fine"]}, "`fine` is none of `labels`"),
        ({"type": "python", "source": "def f(): pass"}, "no function `grade`"),
        ({"type": "python", "source": "def grade(:"}, "not a Python program"),
        ({"type": "python", "source": "\0"}, "not a Python program"),
        ({"type": "python", "source": "(" * 5000}, "not a Python program"),
    ],
)
def test_bad_requests_name_the_field(value: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        validate_grader(value)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", [MULTI, SCORE, LABEL])
def test_openai_s_own_types_accept_what_we_do(value: dict[str, Any]) -> None:
    types = pytest.importorskip("openai.types.graders")
    name = {"multi": "MultiGrader", "score_model": "ScoreModelGrader"}.get(value["type"])
    kind = getattr(types, name or "LabelModelGrader")
    assert validate_grader(value)
    known = set(validate_grader(value).model_fields_set) | {"type"}
    assert set(kind.model_fields) <= known | {"range", "sampling_params", "image_tag"}


def test_progress_is_told_of_each() -> None:
    told: list[tuple[int, int]] = []
    grader = parse("exact", "a")
    grade_many([grader] * 3, ["a", "b", "a"], progress=lambda n, total: told.append((n, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
