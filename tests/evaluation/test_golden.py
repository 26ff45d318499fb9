"""Golden questions: what a line may hold, and every bad line named at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunefork.core.errors import DataError
from tunefork.data import Prompts
from tunefork.evaluation import leaked, load_golden
from tunefork.graders.similarity import Similarity
from tunefork.graders.text import Contains, Exact


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "golden.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def error(folder: Path, *lines: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        load_golden(write(folder, *lines))
    return caught.value


def test_a_question_with_everything(tmp_path: Path) -> None:
    line = {"question": "Where?", "reference": "Home", "grader": "exact", "group": "place"}
    (found,) = load_golden(write(tmp_path, line))
    assert found.messages == ({"role": "user", "content": "Where?"},)
    assert (found.reference, found.group, found.text) == ("Home", "place", "Where?")
    assert found.grader == Exact(reference="Home")
    assert (found.where.file, found.where.line) == (str(tmp_path / "golden.jsonl"), 1)


def test_messages_keep_their_turns(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    (found,) = load_golden(write(tmp_path, {"messages": turns, "reference": "Bye"}))
    assert found.messages == tuple(turns)
    assert found.text == found.group == "Bye"


def test_the_default_grader_fits_the_reference(tmp_path: Path) -> None:
    short, long = "one two three four five six", "one two three four five six seven"
    lines = ({"question": "a", "reference": text} for text in (short, long, 42))
    first, second, third = load_golden(write(tmp_path, *lines))
    assert first.grader == Contains(any=(short,))
    assert second.grader == Similarity(reference=long)
    assert third.grader.grade("It is 42.").passed


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    good = {"question": "a", "reference": "b"}
    path = tmp_path / "golden.jsonl"
    found = error(
        tmp_path,
        good,
        {"question": "a"},
        "{broken",
        good,
        {"question": "a", "refrence": "b"},
        {"question": "a", "reference": "b", "grader": "contians"},
    )
    lines = str(found).splitlines()
    assert lines[0] == f"{path}:2: the question has neither `reference` nor `grader`"
    assert lines[1].startswith(f"{path}:3: broken JSON")
    assert lines[2] == f"{path}:5: unknown field `refrence` in a golden question"
    assert lines[3] == f"{path}:6: unknown grader `contians`"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"reference": "b"}, "give either `question` or `messages`"),
        ({"question": "a", "messages": []}, "give either `question` or `messages`"),
        ({"messages": "a", "reference": "b"}, "`messages` must be a list of turns"),
        ({"messages": [1], "reference": "b"}, "`messages[0]` must have `role` and `content`"),
        ({"messages": [{"role": "cat", "content": "a"}]}, "`messages[0]`: `role` must be one of"),
        ({"messages": [{"role": "user", "content": 1}]}, "`messages[0]`: `content` must be text"),
        (
            {"messages": [{"role": "assistant", "content": "a"}]},
            "the last of `messages` must be a user turn with text",
        ),
        ({"question": " ", "reference": "b"}, "`question` must be text"),
        ({"question": 3, "reference": "b"}, "`question` must be text"),
        ({"question": "a", "reference": ["b"]}, "`reference` must be text"),
        ({"question": "a", "reference": True}, "`reference` must be text"),
        ({"question": "a", "reference": "b", "group": {}}, "`group` must be text"),
        ({"question": "a", "reference": "b", "grader": 3}, "a grader is a name or an object"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, line: Any, message: str) -> None:
    assert message in (found := str(error(tmp_path, line))), found


def test_unusable_files(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("latin", b'{"question": "caf\xe9"}')):
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_golden(path)
    with pytest.raises(DataError, match="no such file"):
        load_golden(tmp_path / "missing.jsonl")


def test_leaks_are_found_whatever_case_and_punctuation(tmp_path: Path) -> None:
    texts = ("Where does he sleep?", "Who is he?", "?!")
    lines = ({"question": text, "reference": "b"} for text in texts)
    golden = load_golden(write(tmp_path, *lines))
    found = leaked(golden, Prompts.of(["where does  he SLEEP", "Who is she?", "..."]))
    assert [question.text for question in found] == ["Where does he sleep?"]
    assert leaked(golden, Prompts.of([])) == []
