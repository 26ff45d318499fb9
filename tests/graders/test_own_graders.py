"""Graders of support, of saying no, of rules, of voice and of judges."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.core.errors import SpecError
from tunefork.graders import AskModel, Failure, Grade, grade_many, parse_grader
from tunefork.graders.abstain import refuses
from tunefork.graders.content import chunks_by_name, content_words, number_values, sentences
from tunefork.graders.judge import agreement
from tunefork.graders.patterns import SlowPatternError, search
from tunefork.graders.voice import fit_voice


def grade(value: Any, answer: str, reference: str | None = None, **item: Any) -> Grade:
    return parse_grader(value, reference=reference, where=None, item=item).grade(answer)


CHUNKS = [
    "The shop opens at 8:30 on weekdays and closes at 18:00.",
    {"id": "refunds", "text": "Refunds take 14 days and need the original receipt."},
]


@pytest.mark.parametrize(
    ("answer", "score", "detail"),
    [
        ("The shop opens at 8:30 [1]. A refund takes 14 days [refunds].", 1, "all 2 sentences"),
        ("The shop opens at 8:30. [1] A refund needs a receipt.[2]", 1, "all 2 sentences"),
        ("1. The shop opens at 8:30 [1]\n2. Refunds need a receipt [1, 2]", 1, "all 2 sentences"),
        ("The shop opens at 9:30 [1].", 0, "9 is not in what is cited"),
        ("The shop opens on weekdays [2].", 0, "not supported by `2`"),
        ("The shop opens on weekdays [3].", 0, "cites `3`, which does not exist"),
        ("The shop opens on weekdays [1, 3].", 0, "cites `3`, which does not exist"),
        ("The shop opens on weekdays.", 0, "cites nothing"),
        ("The shop opens at 8:30 [1]. Bananas are yellow [1].", 0.5, "not supported"),
        ("Yes. [1]", 0, "says nothing"),
        ("", 0, "says nothing"),
    ],
)
def test_citations_exist_and_support(answer: str, score: float, detail: str) -> None:
    found = grade("citations", answer, chunks=CHUNKS)
    assert found.score == score
    assert found.detail.startswith(detail)
    assert found.passed is (score == 1)


@pytest.mark.parametrize("name", ["citations", "grounded"])
def test_without_a_source_nothing_is_marked(name: str) -> None:
    assert grade(name, "The shop opens.").error == "invalid_variable_error"
    assert grade(name, "The shop opens.", chunks=[]).error == "invalid_variable_error"
    later = parse_grader(name, reference=None, where=None, item={})
    assert later.with_item({"chunks": CHUNKS}).grade("The shop opens [1].").error is None


def test_grounded_is_the_share_of_words_and_numbers_in_the_source() -> None:
    found = grade("grounded", "Refunds take 14 days, says Bob.", chunks=CHUNKS)
    assert found.score == pytest.approx(4 / 6)
    assert found.detail == "33% not in the source: bob, say"
    assert grade("grounded", "You need the receipts [refunds].", chunks=CHUNKS).score == 1
    assert grade({"type": "grounded", "source": "cats sleep"}, "Cats sleep.").passed
    assert grade("grounded", "cats sleep", source="Cats sleep.").passed
    # Repeating the question invents nothing.
    assert grade("grounded", "Zebras sleep", source="They sleep.", question="Zebras?").passed


def test_one_invented_number_fails_the_answer() -> None:
    long = "The shop opens on weekdays, and refunds need the original receipt"
    assert grade("grounded", f"{long}.", chunks=CHUNKS).passed
    found = grade("grounded", f"{long} within 15 days.", chunks=CHUNKS)
    assert found.score > 0.8
    assert not found.passed
    assert "15" in found.detail


def test_what_a_text_says() -> None:
    assert content_words("The cats' policies aren't 12 glasses") == {"cat", "policy", "glasse"}
    assert content_words("glasses") == content_words("glasse")
    assert number_values("45 % of 1,200 is 540") == {45, 0.45, 1200, 540}
    assert list(sentences('He said "No." Then left.\n- Gone!')) == [
        'He said "No."',
        "Then left.",
        "- Gone!",
    ]
    assert chunks_by_name({"a": "x", "b": 3}) == {"a": "x"}
    assert chunks_by_name(["x", {"text": "y", "id": 7}, 5]) == {"1": "x", "2": "y", "7": "y"}
    assert chunks_by_name("no") == {}


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m sorry, I cannot do this.", True),
        ("I cannot assist with that request.", True),
        ("I won't do that.", True),
        ("I'm not able to share that.", True),
        ("I must decline.", True),
        ("As an AI, I can't give medical advice.", True),
        ("That is against our policy.", True),
        ("Sure, here is how.", False),
        ("I'm sorry for the delay, but your refund was sent.", False),
        ("Sorry to hear that! You can reset it here.", False),
        ("I can't recommend it enough!", False),
        ("I can't believe how good it is.", False),
        ("You cannot return it after 14 days.", False),
    ],
)
def test_refusals_are_told_from_answers(answer: str, is_refusal: bool) -> None:
    assert (refuses(answer) is not None) is is_refusal
    assert grade("refusal", answer).passed is is_refusal
    assert grade({"type": "refusal", "expected": False}, answer).passed is not is_refusal


def test_own_phrases_count_too() -> None:
    assert not grade("refusal", "Das geht leider nicht.").passed
    assert grade(
        {"type": "refusal", "phrases": ["geht leider nicht"]}, "Das geht LEIDER nicht"
    ).passed
    weiss = {"type": "unanswerable", "phrases": ["weiß ich nicht"]}
    assert grade(weiss, "Das weiß ich nicht.").passed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("I don't know.", True),
        ("I don\u2019t know. Please ask support.", True),
        ("The document does not mention this.", True),
        ("This isn't stated in the handbook.", True),
        ("There is no information about that.", True),
        ("I couldn't find an answer in the documents.", True),
        ("I do not have that information.", True),
        ("I'm sorry, but I can't answer that.", True),
        ("I don't know, but it is probably 42.", False),
        ("I'm not sure. However, I think it is 42.", False),
        ("It is 42.", False),
        ("He does not like cats.", False),
        ("", False),
    ],
)
def test_a_confident_answer_to_the_unanswerable_is_wrong(answer: str, passed: bool) -> None:
    found = grade("unanswerable", answer)
    assert found.passed is passed
    assert passed or "hallucination" in found.detail


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"max_words": 3}, "one two three", "one two three four"),
        ({"min_words": 2}, "one two", "one"),
        ({"max_sentences": 1}, "One.", "One. Two."),
        ({"must_contain": "thank you"}, "Thank  you!", "thanks"),
        ({"must_not_contain": ["cheap", "free"]}, "freedom", "It's FREE"),
        ({"starts_with": "dear"}, "Dear Ann", "Hi, dear"),
        ({"ends_with": "Ollie"}, "Yours, Ollie ", "Ollie!"),
        ({"matches": r"\d{4}"}, "in 1999", "in 99"),
        ({"must_not_match": r"https?://"}, "no link", "see http://x"),
        ({"no_exclamation": True}, "Hi.", "Hi!"),
        ({"no_question": True}, "Hi.", "Hi?"),
        ({"no_emoji": True}, "Hi \u2013 \u00a9 5 \u00b0C", "Hi \U0001f600"),
        (
            {"language": "en"},
            "This is a perfectly English sentence.",
            "Das ist ein deutscher Satz.",
        ),
        ({"language": "de"}, "Das ist ein deutscher Satz.", "This is an English sentence."),
    ],
)
def test_each_rule_passes_and_fails(rule: dict[str, Any], good: str, bad: str) -> None:
    value = {"type": "guidelines", "rules": [rule]}
    assert grade(value, good).passed, grade(value, good).detail
    assert not grade(value, bad).passed
    assert parse_grader(value, reference=None, where=None).describe()


def test_guidelines_score_the_share_of_kept_rules() -> None:
    rules = [{"name": "be short", "max_words": 2}, {"no_exclamation": True}, {"ends_with": "x"}]
    value = {"type": "guidelines", "rules": rules, "minimum": 0.5}
    found = grade(value, "far too long x")
    assert found.score == pytest.approx(2 / 3)
    assert found.passed
    assert found.detail == "be short: 4 of at most 2 words"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "guidelines", "rules": []}, "`rules`: must not be empty"),
        ({"type": "guidelines", "rules": [{}]}, "a rule has exactly one of"),
        ({"type": "guidelines", "rules": [{"max_words": 1, "min_words": 1}]}, "exactly one of"),
        ({"type": "guidelines", "rules": [{"max_word": 1}]}, "did you mean `max_words`"),
        ({"type": "guidelines", "rules": [{"matches": "(a"}]}, "not a regular expression"),
        ({"type": "guidelines", "rules": [{"language": "english"}]}, "`rules.0.language`"),
        ({"type": "bullets", "min_items": 3, "max_items": 2}, "more than `max_items`"),
        ({"type": "grounded", "minimum": 2}, "`minimum`"),
        ({"type": "human", "instruction": "x"}, "did you mean `instructions`"),
        ({"type": "judge"}, "needs a reference"),
        ({"type": "voice", "owner": ["a"], "others": ["b"]}, "`owner` has 1 different texts"),
    ],
)
def test_bad_settings_are_named(value: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_grader(value, reference=None, where=None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "answer", "passed"),
    [
        ({}, "- one", True),
        ({}, "Two things: one, two", False),
        ({"min_items": 3}, "1. a\n2) b\n\u2022 c", True),
        ({"max_items": 2}, "* a\n* b\n* c", False),
        ({"max_words": 3}, "- one two\n  three", True),
        ({"max_words": 2}, "- one two\n  three", False),
        ({"only": True}, "Here you are:\n- a", False),
        ({"only": True}, "- a\n\n- b\n", True),
        ({}, "-5 degrees", False),
    ],
)
def test_bullets(settings: dict[str, Any], answer: str, passed: bool) -> None:
    assert grade({"type": "bullets", **settings}, answer).passed is passed


def test_a_person_s_mark_is_pending() -> None:
    found = grade("human", "x")
    assert found.is_pending
    assert not found.passed
    assert found.error is None


@pytest.mark.parametrize("pattern", [r"(x+x+)+y", r"(a|aa)+$", r"^(\w+\s?)*$", r"(.*)*(.*)*=(.*)"])
def test_no_pattern_hangs(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunefork.graders.patterns.TIME_LIMIT_S", 0.05)
    start = time.monotonic()
    for answer in ("x" * 5000, "a" * 60 + "b", "word " * 2000 + "!"):
        grade("regex", answer, pattern)
    assert time.monotonic() - start < 5


def test_a_pattern_beyond_its_time_is_an_error_and_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunefork.graders.patterns.TIME_LIMIT_S", 0.05)
    slow = r"(x+x+)+y"
    with pytest.raises(SlowPatternError):
        search(slow, "x" * 5000)
    assert grade("regex", "x" * 5000, slow).error == "other_error"
    rules = {"type": "guidelines", "rules": [{"must_not_match": slow}]}
    assert grade(rules, "x" * 5000).error == "other_error"
    schema = {"type": "json_schema", "schema": {"pattern": slow}}
    assert grade(schema, '"' + "x" * 5000 + '"').error == "other_error"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a{e<=1}", "b", None),
        ("a{e<=1}", "a{e<=1}", "a{e<=1}"),
        (r"\{x\}", "{x}", "{x}"),
        ("{x}", "{x}", "{x}"),
        ("[{]a{2}", "{aa", "{aa"),
        (r"\N{BULLET}", "\u2022", "\u2022"),
        ("a{2,3}b{,1}", "aaab", "aaab"),
    ],
)
def test_patterns_mean_what_they_mean_in_python(pattern: str, text: str, found: str | None) -> None:
    assert search(pattern, text) == found


def test_schemas_search_in_bounded_time_and_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunefork.graders.patterns.TIME_LIMIT_S", 0.05)
    schema = {
        "properties": {"a": {"pattern": "^x"}},
        "patternProperties": {"^n_": {"type": "integer"}},
        "additionalProperties": False,
    }
    value = {"type": "json_schema", "schema": schema}
    assert grade(value, '{"a": "xy", "n_1": 3}').passed
    assert grade(value, '{"a": "yx"}').detail == "$.a: `'yx' does not match '^x'`"
    assert grade(value, '{"n_1": "3"}').detail == "$.n_1: `'3' is not of type 'integer'`"
    assert "`b` is not allowed" in grade(value, '{"b": 1}').detail
    of_text = {"additionalProperties": {"type": "string"}}
    assert grade({**value, "schema": of_text}, '{"b": "1"}').passed
    assert not grade({**value, "schema": of_text}, '{"b": 1}').passed
    for keyword in ("patternProperties", "additionalProperties"):
        slow = {"patternProperties": {r"(x+x+)+y": True}, keyword: {r"(x+x+)+y": True}}
        answer = '{"' + "x" * 5000 + '": 1}'
        assert grade({**value, "schema": slow}, answer).error == "other_error"
    own = {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": r"(x+x+)+y"}
    again = {**own, "items": {"$ref": "#"}}
    assert grade({**value, "schema": again}, '["' + "x" * 5000 + '"]').error == "other_error"


OWNER_WORDS = ["whisker", "purr", "nap", "sunbeam", "box", "ollie", "cuddle", "gently", "dozing"]
OTHER_WORDS = ["quarterly", "revenue", "stakeholder", "synergy", "roadmap", "margin", "leverage"]


def texts(words: Sequence[str], n: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=12)) for _ in range(n)]


def test_voice_knows_its_owner_on_texts_it_never_saw() -> None:
    mixed = ["the", "and", "is", "of"] * 3
    owner = texts([*OWNER_WORDS, *mixed], 30, seed=1)
    others = texts([*OTHER_WORDS, *mixed], 20, seed=2)
    voice = {"type": "voice", "owner": owner, "others": others}
    for text in texts([*OWNER_WORDS, *mixed], 10, seed=3):
        assert grade(voice, text).passed
    for text in texts([*OTHER_WORDS, *mixed], 10, seed=4):
        found = grade(voice, text)
        assert not found.passed
        assert "held-out texts" in found.detail


def test_voice_is_refused_where_there_is_no_difference() -> None:
    same = texts(OWNER_WORDS, 80, seed=5)
    assert 0.3 < fit_voice(same[:40], same[40:]).accuracy < 0.7
    voice = {"type": "voice", "owner": same[:40], "others": same[40:]}
    with pytest.raises(SpecError, match="cannot be told from the others'"):
        parse_grader(voice, reference=None, where=None)


def test_held_out_accuracy_is_that_of_fitting_without_each_text() -> None:
    common = ["the", "and", "is", "of"] * 8
    owner = texts([*OWNER_WORDS, *common], 12, seed=6)
    others = texts([*OTHER_WORDS, *common], 11, seed=7)
    whole = fit_voice(owner, others)
    right = 0.0
    for index, text in enumerate(owner):
        rest = fit_voice(owner[:index] + owner[index + 1 :], others)
        right += (rest.decision(text) > whole.middle) / len(owner) / 2
    for index, text in enumerate(others):
        rest = fit_voice(owner, others[:index] + others[index + 1 :])
        right += (rest.decision(text) < whole.middle) / len(others) / 2
    assert whole.accuracy == pytest.approx(right)


def judged(*replies: str | Failure) -> Grade:
    asked: list[AskModel] = []

    def ask(questions: Sequence[AskModel]) -> Sequence[str | Failure]:
        asked.extend(questions)
        return replies

    grader = parse_grader("judge", reference="old", where=None, item={"question": "Which?"})
    (found,) = grade_many([grader], ["new"], ask=ask)
    first, second = (question.messages[-1]["content"] for question in asked)
    assert first.index("new") < first.index("old")
    assert second.index("old") < second.index("new")
    assert "Which?" in first
    return found


@pytest.mark.parametrize(
    ("replies", "score", "detail"),
    [
        (("A", "B"), 1.0, "better in both orders"),
        (("B", "A"), 0.0, "worse in both orders"),
        (("A", "A"), 0.5, "the judge prefers place A"),
        (("B", "B"), 0.5, "the judge prefers place B"),
        (("T", "tie."), 0.5, "no clear difference"),
        (("A", "T"), 0.75, "no clear difference"),
        (("**A**", "Answer B"), 1.0, "better in both orders"),
    ],
)
def test_a_judge_is_asked_in_both_orders(
    replies: tuple[str, str], score: float, detail: str
) -> None:
    found = judged(*replies)
    assert (found.score, found.detail) == (score, detail)


def test_a_judge_that_does_not_judge_is_an_error() -> None:
    assert judged("A", "both are fine").error == "model_grader_parse_error"
    assert judged("A", Failure("model_grader_server_error", "slow")).error is not None


def test_agreement_is_cohen_s_kappa() -> None:
    # The worked example of Wikipedia's article on Cohen's kappa: 20, 5, 10, 15 of 50.
    yes, no = Grade(1.0, True, "x"), Grade(0.0, False, "x")
    grades = [yes] * 25 + [no] * 25
    people = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = agreement([*grades, Grade(0.0, False, "x", error="other_error")], [*people, True])
    assert found.n == 50
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert agreement([yes, yes], [True, True]).kappa == 0
    with pytest.raises(ValueError, match="no answer was marked by both"):
        agreement([], [])


@given(st.text(max_size=300))
def test_no_answer_makes_them_raise(answer: str) -> None:
    rules = [{"max_sentences": 1}, {"language": "en"}, {"no_emoji": True}]
    for value in ("citations", "grounded", "refusal", "unanswerable", "bullets", "human"):
        found = grade(value, answer, chunks=CHUNKS)
        assert 0 <= found.score <= 1
    assert grade({"type": "guidelines", "rules": rules}, answer).detail
