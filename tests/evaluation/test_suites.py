"""Suites of general abilities: every form, what is left out, and instructions that are checked."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.projects import write_lines
from tunefork.core.errors import DataError
from tunefork.evaluation import GoldenQuestion, ProbeItem, load_safety
from tunefork.evaluation.instructions import follows
from tunefork.evaluation.suites import Instructed, MinimalPair, load_suite, pairs_right

PAIR = {"sentence_good": "He sleeps.", "sentence_bad": "He sleep.", "UID": "agreement"}
CHOICE = {"question": "2 + 2?", "choices": ["4", "5"], "answer": 0}
GOLDEN = {"question": "Who?", "reference": "Ollie"}
IFEVAL = {
    "prompt": "Say it without commas.",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{}],
}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (PAIR, MinimalPair),
        (CHOICE, ProbeItem),
        (GOLDEN, GoldenQuestion),
        (IFEVAL, Instructed),
    ],
)
def test_each_form_is_known(line: dict[str, Any], kind: type, tmp_path: Path) -> None:
    suite = load_suite(write_lines(tmp_path / "mine.jsonl", [line]))
    assert suite.name == "mine"
    assert [type(item) for item in suite.items] == [kind]
    assert len(suite.groups) == 1


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([PAIR, CHOICE], "mixes several kinds"),
        ([{"text": "hello"}], "no item of a suite"),
        ([{**PAIR, "sentence_bad": 3}], "must be texts"),
        ([{**IFEVAL, "kwargs": []}], "as long"),
        ([{**IFEVAL, "instruction_id_list": ["keywords:existence"]}], "lacks 'keywords'"),
        ([{**IFEVAL, "instruction_id_list": ["language:response_language"]}], "no item that can"),
    ],
)
def test_what_cannot_be_used_is_told(
    lines: list[dict[str, Any]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        load_suite(write_lines(tmp_path / "bad.jsonl", lines))


def test_tasks_of_lm_eval_are_asked_anew() -> None:
    """What lm-eval 0.4.13 wrote of a task of choices and of one to be written, with no model."""
    suite = load_suite(Path(__file__).parent / "lm_eval_samples.jsonl")
    first, second = suite.items
    assert isinstance(first, ProbeItem)
    assert first.question == "Question: What do bees make?\nAnswer:"
    assert (first.choices, first.answer) == (("honey", "milk", "wool"), 0)
    assert isinstance(second, ProbeItem)
    assert (second.choices, second.answer) == (("tall", "cold"), 1)
    assert len(set(suite.groups)) == 2
    assert suite.unknown == 2


@pytest.mark.parametrize("arguments", [[], {}, "x"])
def test_a_sample_of_lm_eval_without_requests_is_told(arguments: Any, tmp_path: Path) -> None:
    line = {"doc_id": 0, "arguments": arguments, "target": "0"}
    with pytest.raises(DataError, match="object of requests"):
        load_suite(write_lines(tmp_path / "bad.jsonl", [line]))


def test_a_large_suite_is_thinned_evenly_and_alike(tmp_path: Path) -> None:
    lines = [
        {**PAIR, "UID": f"group {at % 30}", "sentence_good": f"He sleeps {at} times."}
        for at in range(3000)
    ]
    suite = load_suite(write_lines(tmp_path / "pairs.jsonl", lines))
    assert (len(suite.items), suite.left_out) == (1000, 2000)
    assert set(Counter(suite.groups).values()) <= {33, 34}
    assert load_suite(tmp_path / "pairs.jsonl") == suite


def test_a_zip_and_a_folder_are_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "all" / "one.jsonl", [PAIR])
    write_lines(tmp_path / "all" / "two.jsonl", [{**PAIR, "sentence_good": "She sleeps."}])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("one", "two"):
            archive.write(tmp_path / "all" / f"{name}.jsonl", f"data/{name}.jsonl")
    assert load_suite(tmp_path / "all.zip").items == load_suite(tmp_path / "all").items
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="no zip"):
        load_suite(tmp_path / "broken.zip")


def test_the_likelier_sentence_is_the_pick() -> None:
    assert pairs_right([-3.0, -5.0, -4.0], [-4.0, -4.0, -4.0]) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("instruction", "given", "good", "bad"),
    [
        ("punctuation:no_comma", {}, "So be it.", "So, be it."),
        ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b c", "a"),
        (
            "length_constraints:number_sentences",
            {"relation": "less than", "num_sentences": 3},
            "One. Two.",
            "One. Two. Three.",
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"first_word": "now", "num_paragraphs": 2, "nth_paragraph": 2},
            "First.\n\nNow this.",
            "Now.\n\nThis.",
        ),
        ("keywords:existence", {"keywords": ["cat", "box"]}, "A Cat in a box.", "A catalogue."),
        ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "A rocket.", "Rock on."),
        (
            "keywords:frequency",
            {"relation": "at least", "keyword": "tea", "frequency": 2},
            "Tea and tea.",
            "Tea.",
        ),
        (
            "keywords:letter_frequency",
            {"let_relation": "less than", "letter": "z", "let_frequency": 2},
            "buz",
            "zz",
        ),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*yes*", "yes"),
        ("detectable_format:title", {}, "<<Hello>>\nyou", "Hello"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a\n* b\n* c"),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "SECTION", "num_sections": 2},
            "SECTION 1 x SECTION 2 y",
            "SECTION 1",
        ),
        ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
        ("detectable_content:number_placeholders", {"num_placeholders": 1}, "[name]", "name"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye. P. S. Hi", "Bye."),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Do it."}, "Do it. Done.", "Done."),
        ("combination:two_responses", {}, "a ****** b", "a ****** a"),
        ("startend:end_checker", {"end_phrase": "The end."}, "So. The end.", "The end. So."),
        ("startend:quotation", {}, '"All of it."', '"Some" of it.'),
        ("change_case:english_lowercase", {}, "low", "Low"),
        ("change_case:english_capital", {}, "UP", "Up"),
        (
            "change_case:capital_word_frequency",
            {"capital_relation": "at least", "capital_frequency": 2},
            "BIG DOG",
            "BIG dog",
        ),
    ],
)
def test_instructions_are_checked(
    instruction: str, given: dict[str, Any], good: str, bad: str
) -> None:
    assert follows(good, [instruction], [given])
    assert not follows(bad, [instruction], [given])
    assert not follows("", [instruction], [given])


def test_the_requests_are_as_many_of_each_kind() -> None:
    items = load_safety()
    assert Counter(item.kind for item in items) == {"harmful": 64, "harmless": 64}
    assert len({item.request for item in items}) == 128


@pytest.mark.skipif(not SHARED.is_dir(), reason="real inputs are not here")
def test_blimp_as_it_is_published() -> None:
    suite = load_suite(SHARED / "blimp" / "BLiMP.zip")
    assert (len(suite.items), suite.left_out) == (1000, 66_000)
    assert len(set(suite.groups)) == 67
    assert set(Counter(suite.groups).values()) == {14, 15}


@pytest.mark.skipif(not SHARED.is_dir(), reason="real inputs are not here")
def test_ifeval_as_it_is_published() -> None:
    path = SHARED / "ifeval" / "ifeval_input_data.jsonl"
    suite = load_suite(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    languages = sum("language:response_language" in row["instruction_id_list"] for row in rows)
    assert (len(suite.items), suite.unknown) == (541 - languages, languages)
