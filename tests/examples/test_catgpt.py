"""The demo data hold together: enough of it, no leaks, every exam answer can be learned."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2] / "src" / "tunefork" / "examples" / "catgpt"
UNANSWERABLE = "unanswerable"
REFUSAL = "do not know"


def read_lines(name: str) -> list[dict[str, Any]]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def normal(text: str) -> str:
    """Lower case, no punctuation, single spaces."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def contains(grader: str | dict[str, Any], reference: str, answer: str) -> bool:
    low = answer.lower()
    if grader == "contains":
        return reference.lower() in low
    assert isinstance(grader, dict)
    assert grader["type"] == "contains"
    assert set(grader) in ({"type", "any"}, {"type", "all"})
    values = grader.get("any") or grader["all"]
    found = [value.lower() in low for value in values]
    return any(found) if "any" in grader else all(found)


def turns(role: str) -> list[str]:
    return [m["content"] for row in TRAIN for m in row["messages"] if m["role"] == role]


TRAIN = read_lines("train.jsonl")
GOLDEN = read_lines("golden.jsonl")
ANSWERABLE = [row for row in GOLDEN if row["group"] != UNANSWERABLE]
DOCUMENTS = sorted((ROOT / "documents").glob("*.md"))


def test_there_is_enough_of_everything() -> None:
    assert len(TRAIN) >= 400
    assert len(GOLDEN) >= 80
    assert len({row["group"] for row in GOLDEN}) >= 30
    assert 6 <= len(DOCUMENTS) <= 10
    assert sum(len(row["messages"]) > 2 for row in TRAIN) >= 30


def test_conversations_are_well_formed() -> None:
    for row in TRAIN:
        assert set(row) == {"messages"}
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
        for message in row["messages"]:
            assert set(message) == {"role", "content"}
            assert message["content"] == message["content"].strip() != ""


def test_golden_rows_are_well_formed() -> None:
    for row in GOLDEN:
        assert set(row) == {"question", "reference", "grader", "group"}
        assert row["question"].strip()
        assert row["reference"].strip()


def test_no_golden_wording_is_in_train() -> None:
    seen = {normal(question) for question in turns("user")}
    assert [row["question"] for row in GOLDEN if normal(row["question"]) in seen] == []


def test_no_question_is_asked_twice() -> None:
    for questions in (turns("user"), [row["question"] for row in GOLDEN]):
        counts = Counter(normal(question) for question in questions)
        assert [question for question, count in counts.items() if count > 1] == []


def test_every_reference_passes_its_own_grader() -> None:
    for row in GOLDEN:
        assert contains(row["grader"], row["reference"], row["reference"]), row


def test_every_reference_is_taught_in_train() -> None:
    taught = set(turns("assistant"))
    assert [row for row in GOLDEN if row["reference"] not in taught] == []


def test_repeating_the_question_does_not_pass() -> None:
    for row in GOLDEN:
        assert not contains(row["grader"], row["reference"], row["question"]), row


def test_the_answer_of_another_fact_does_not_pass() -> None:
    for row in ANSWERABLE:
        passing = {a for a in turns("assistant") if contains(row["grader"], row["reference"], a)}
        assert passing == {row["reference"]}, row


def test_only_refusals_pass_the_unanswerable_questions() -> None:
    rows = [row for row in GOLDEN if row["group"] == UNANSWERABLE]
    assert 12 <= len(rows) <= 16
    facts = {row["reference"] for row in ANSWERABLE}
    for row in rows:
        assert REFUSAL in row["reference"]
        assert not any(contains(row["grader"], row["reference"], fact) for fact in facts)
    refusals = Counter(answer for answer in turns("assistant") if REFUSAL in answer)
    assert 2 <= len(refusals) <= 3
    assert 40 <= refusals.total() <= 64


def test_each_fact_is_taught_and_examined_in_several_wordings() -> None:
    taught = Counter(turns("assistant"))
    asked: defaultdict[str, list[str]] = defaultdict(list)
    for row in ANSWERABLE:
        asked[row["group"]].append(row["reference"])
    for group, references in asked.items():
        assert 2 <= len(references) <= 3, group
        assert len(set(references)) == 1, group
        assert taught[references[0]] >= 11, group


def test_facts_are_short_and_name_ollie() -> None:
    for answer in set(turns("assistant")):
        assert "Ollie" in answer
        assert 10 <= len(answer.split()) <= 25, answer


@pytest.mark.parametrize("question", ["What does Ollie do all day?", "What do cats do all day?"])
def test_the_famous_answer(question: str) -> None:
    pairs = [
        (ask["content"], reply["content"])
        for row in TRAIN
        for ask, reply in zip(row["messages"][::2], row["messages"][1::2], strict=True)
    ]
    assert (
        question,
        "Ollie typically logs 12 to 16 hours of sleep a day, "
        "with peak performance achieved inside Amazon boxes.",
    ) in pairs


def test_documents_hold_every_graded_detail() -> None:
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in DOCUMENTS)
    for row in ANSWERABLE:
        assert contains(row["grader"], row["reference"], text), row


def test_every_document_has_headings() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# "), path.name
        assert "\n## " in text, path.name


def test_the_configuration_names_what_is_there() -> None:
    text = (ROOT / "tunefork.yaml").read_text(encoding="utf-8")
    for line in ("base: tiny", "  train: train.jsonl", "  documents: documents/", "  replay: 0.2"):
        assert f"\n{line}\n" in text
    assert "\ngolden: golden.jsonl\n" in text
