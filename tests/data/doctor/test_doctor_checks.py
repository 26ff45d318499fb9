"""Each check: what it must find, and what it must leave alone."""

from __future__ import annotations

import json
import random
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.data.doctor.made import codes, context, find, good_pairs, make_rows
from tunefork.core.errors import DataError, Where
from tunefork.data.doctor import CHECKS, Context, Rows, Tokens, examine
from tunefork.data.doctor.near import near_pairs
from tunefork.data.doctor.text import repair_encoding, repair_whitespace
from tunefork.data.shingles import shingles

DOCS = Path(__file__).parents[3] / "docs" / "checks.md"
LONG = "The parcel leaves our house in the morning. It arrives on the next day at noon"


def test_sound_rows_have_no_findings() -> None:
    assert codes(good_pairs(240)) == set()


def test_every_code_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for check in CHECKS:
        for code in check.codes:
            assert f"`{code}`" in text


def test_findings_have_only_codes_of_the_table_and_come_by_severity() -> None:
    pairs = [*good_pairs(), ("", ""), ("Who?", "Mail a@b.org  "), ("Who?", "AKIAABCDEFGHIJKLMNOP")]
    known = [code for check in CHECKS for code in check.codes]
    found = examine(context(pairs))
    assert all(any(fnmatch(each.code, code) for code in known) for each in found)
    assert [each.severity for each in found] == sorted(
        (each.severity for each in found), key=["error", "warning", "note"].index
    )
    for each in found:
        assert each.message
        assert each.hint
        assert set(each.rows) <= set(range(1, len(pairs) + 1))


def test_duplicates_differ_in_case_and_punctuation_only() -> None:
    pairs = [
        ("What is a fork?", "A tool."),
        ("what is a FORK", "a tool"),
        ("What is a fork?", "A branch of a road."),
        ("What is 5 + 3?", "A sum."),
        ("What is 5 - 3?", "A sum."),
        ("Is it 1.5 litres?", "A sum."),
        ("Is it 15 litres?", "A sum."),
    ]
    found = find(pairs, "duplicate.exact")
    assert found is not None
    assert found.rows == (2,)
    assert found.count == 1


def test_near_duplicates_need_alike_prompts_and_answers() -> None:
    question = "How do I change the delivery address of an order that I placed on Monday morning"
    answer = "Open your orders, choose the order, press change and type the new address there."
    pairs = [
        (question, answer),
        (question.replace("Monday", "Tuesday"), answer.replace("press", "click")),
        (question.replace("Monday", "Friday"), "No."),
        ("What is the capital of France?", "Paris"),
        ("What is the capital of Spain?", "Madrid"),
    ]
    found = find(pairs, "duplicate.near")
    assert found is not None
    assert found.rows == (2,)


def test_conflicts_are_told_from_data_with_many_answers() -> None:
    pairs = [*good_pairs(), ("Who?", "Ann."), ("who", "Ben."), ("When?", "Now."), ("When?", "now")]
    found = find(pairs, "conflict")
    assert found is not None
    assert (found.count, found.rows) == (1, (41, 42))
    many = [(asked, f"{said} So says number {n}.") for asked, said in good_pairs(30) for n in "abc"]
    assert find(many, "conflict") is None
    note = find(many, "one_to_many")
    assert note is not None
    assert note.severity == "note"


def test_a_question_worded_nearly_alike_with_another_answer_is_a_note() -> None:
    pairs = [*good_pairs(), ("Can you tell me the price of tea?", "2"), ("the price of tea", "3")]
    found = find(pairs, "conflict.near")
    assert found is not None
    assert found.rows == (41, 42)


def test_leaks_into_validation_and_golden() -> None:
    pairs = good_pairs()
    others = make_rows([(pairs[3][0].upper(), "x"), ("Something new?", "x")])
    found = find(pairs, "leak.validation", validation=others)
    assert found is not None
    assert (found.count, found.rows, found.severity) == (1, (4,), "error")
    golden = find(pairs, "leak.golden", golden=[pairs[0][0] + "!!", "Other?"])
    assert golden is not None
    assert golden.rows == (1,)


@pytest.mark.parametrize("pair", [("", "x"), ("x", " \n"), ("  ", "")])
def test_empty_rows(pair: tuple[str, str]) -> None:
    found = find([*good_pairs(), pair], "empty")
    assert found is not None
    assert found.rows == (41,)


@pytest.mark.parametrize(
    "cut",
    [
        LONG,
        "Please send the form together with a copy of your passport and the",
        "Here is the program that you asked for:\n\n```python\nprint('one')\n",
    ],
)
def test_truncated_answers_are_judged_by_how_the_others_end(cut: str) -> None:
    found = find([*good_pairs(), ("Next?", cut)], "truncated")
    assert found is not None
    assert found.rows == (41,)


@pytest.mark.parametrize(
    "whole",
    [
        LONG + ".",
        "Do this with some care, as it is hot:\n- open the oven\n- take out the bread",
        "See all of the details of it on this page: https://example.org/a/b",
        "She said to all of them: “I will be back before dinner”",
        "Thank you very much for writing to us today.\n\nKind regards\nAnn",
    ],
)
def test_whole_answers_are_not_called_truncated(whole: str) -> None:
    assert find([*good_pairs(), ("Next?", whole)], "truncated") is None


def test_answers_that_never_end_like_sentences_are_not_truncated() -> None:
    assert find([(q, a.rstrip(".")) for q, a in good_pairs()], "truncated") is None


@pytest.mark.parametrize(
    "said",
    [
        "As an AI language model, I cannot say.",
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but as an AI I have no opinion.",
        "I cannot assist you with this request.",
    ],
)
def test_refusals(said: str) -> None:
    assert find([*good_pairs(), ("Next?", said)], "refusal") is not None


def test_a_refusal_in_the_question_or_a_polite_no_is_none() -> None:
    pairs = [("Are you, as an AI, awake?", "Yes."), ("Open?", "I cannot see the door from here.")]
    assert find([*good_pairs(), *pairs], "refusal") is None


def test_broken_json_among_json() -> None:
    pairs = [(asked, json.dumps({"said": said})) for asked, said in good_pairs()]
    found = find([*pairs, ("Next?", '{"said": "x"'), ("Then?", "Plain.")], "format.inconsistent")
    assert found is not None
    assert found.rows == (41, 42)


def test_some_lists_among_single_lines() -> None:
    pairs = [*good_pairs(), ("Next?", "Do this:\n- one thing\n- another thing.")]
    found = find(pairs, "format.inconsistent")
    assert found is not None
    assert found.rows == (41,)
    assert find([("How?", "{{name}} is here."), *good_pairs()], "format.inconsistent") is None


def test_encoding() -> None:
    pairs = [
        *good_pairs(),
        ("Next?", "The cafÃ© is open."),
        ("Then?", "The café “Ö” is open \u2013 now."),
    ]
    found = find(pairs, "encoding")
    assert found is not None
    assert found.rows == (41,)
    assert repair_encoding("The cafÃ© is open.") == "The café is open."


@pytest.mark.parametrize(
    "text", ["naïve Ærø", "“quoted” \u2013 \u2018x\u2019", "👩‍👧 میخواهم", "Ã", "ﬁne"]
)
def test_good_text_is_not_touched(text: str) -> None:
    assert repair_encoding(text) == text
    assert repair_whitespace(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a b \n", "a b"),
        ("a\r\nb", "a\nb"),
        ("a \nb", "a\nb"),
        ("a\u200bb\ufeff", "ab"),
        ("a\n\n\n\n\nb", "a\n\n\nb"),
        ("a     b", "a b"),
        ("if x:\n    y  \n", "if x:\n    y"),
        ("    if x:\n        y", "    if x:\n        y"),
        ("a |     b |", "a |     b |"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_whitespace(text: str, clean: str) -> None:
    assert repair_whitespace(text) == clean
    assert repair_whitespace(clean) == clean


def test_markup_but_not_in_code_or_where_it_is_the_subject() -> None:
    pairs = [
        *good_pairs(),
        ("Next?", "Press <b>OK</b> now."),
        ("Next one?", "Tom &amp; Jerry are here."),
        ("Write HTML", "<p>Hello</p>"),
        ("A tag?", "Write `<p>` before it."),
        ("Sum?", "If a < b and b > c, stop."),
    ]
    found = find(pairs, "markup")
    assert found is not None
    assert found.rows == (41, 42)


def test_another_language() -> None:
    german = "Bitte öffnen Sie zuerst die Tür und schalten Sie danach das Licht in der Küche ein."
    pairs = [*good_pairs(), ("Next?", german), ("Then?", "Это хороший день"), ("So?", "Merci!")]
    found = find(pairs, "language.mixed")
    assert found is not None
    assert found.rows == (41, 42)


def test_short_names_are_not_another_language() -> None:
    assert (
        find([*good_pairs(), ("Who?", "José Müller"), ("Where?", "Oslo")], "language.mixed") is None
    )


def test_labels_that_are_rare() -> None:
    pairs = [(f"{asked}", "yes" if at else "no") for at, (asked, _) in enumerate(good_pairs(60))]
    found = find(pairs, "imbalance")
    assert found is not None
    assert found.rows == (1,)


def test_one_answer_far_too_often() -> None:
    pairs = [
        (asked, "Please call us." if at % 3 else said)
        for at, (asked, said) in enumerate(good_pairs())
    ]
    found = find(pairs, "imbalance")
    assert found is not None
    assert found.count == 26


def test_too_few() -> None:
    assert find(good_pairs(10), "too_few") is not None
    assert find(good_pairs(250), "too_few") is None


def test_a_label_that_its_neighbours_contradict() -> None:
    made = random.Random(0)
    pairs = []
    for at in range(80):
        kind, words = (
            ("cards", "card pin chip block magnetic strip"),
            ("loans", "loan rate month debt repay interest"),
        )[at % 2]
        said = made.sample(words.split(), 4)
        pairs.append((f"about the {' '.join(said)} number {at}", kind))
    pairs[10] = (pairs[10][0], "loans")
    found = find(pairs, "label.suspect")
    assert found is not None
    assert 11 in found.rows
    assert found.count <= 3


def test_real_inputs_that_the_data_lacks() -> None:
    pairs = good_pairs(200)
    asked = [pairs[0][0], pairs[5][0] + " Please", "Which vaccine does my puppy need in winter?"]
    found = find(pairs, "unrepresentative", against=asked)
    assert found is not None
    assert found.count == 1
    assert "puppy" in found.example


def test_rows_that_the_base_does_not_take() -> None:
    tokens = Tokens("small", 10, {1: 11, 2: 10}, {3: "no tools here"})
    found = {each.code: each for each in examine(context(good_pairs(3), tokens=tokens))}
    assert found["too_long"].rows == (1,)
    assert found["template"].rows == (3,)


def test_rows_that_cannot_be_read() -> None:
    fault = DataError("broken", where=Where("made", 3), hint="mend it")
    found = examine(Context(Rows(make_rows(good_pairs(2)), [(3, fault)])))
    assert [each.rows for each in found if each.code == "unreadable"] == [(3,)]


def test_examples_show_nothing_private() -> None:
    pairs = [
        *good_pairs(),
        ("Mail joe.bloggs@example.org?", ""),
        ("Mail joe.bloggs@example.org?", ""),
    ]
    shown = json.dumps([each.as_dict() for each in examine(context(pairs))])
    assert "bloggs" not in shown


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    """One word in ten is replaced by another; far more alike than the rest, which is random."""
    made = random.Random(1)
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nprstvz"]
    texts = [" ".join(made.choices(vocabulary, k=made.randint(10, 60))) for _ in range(600)]
    pairs, planted = [], set()
    for text in texts:
        pairs.append((text, "a label"))
        if made.random() < 0.5:
            words = text.split()
            for at in made.sample(range(len(words)), max(1, round(0.1 * len(words)))):
                words[at] = made.choice(vocabulary)
            planted.add((len(pairs) - 1, len(pairs)))
            pairs.append((" ".join(words), "a label"))
    rows = make_rows(pairs)
    found = {(pair.first, pair.second) for pair in near_pairs(rows)}
    assert len(found & planted) >= 0.95 * len(planted)
    for first, second in found:
        one, other = shingles(rows[first].prompt), shingles(rows[second].prompt)
        assert len(one & other) / len(one | other) >= 0.5
